"""What Redis says when it refuses, and its errors as livingai's.

An error reply begins with a word that says what kind it is; redis-py turns some of them into
classes and drops the word. Three kinds matter (see :mod:`livingai.stores.base`, rules 5 and 6):
trouble that passes, a row that can never be stored, and what needs a person.
"""

from __future__ import annotations

from typing import Final

from livingai.errors import (
    CorruptRowError,
    RecordRefusedError,
    StoreAuthenticationError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)

#: Error words that pass by themselves or with a server's next state; the batch is sent again.
_PASSING: Final = {
    "OOM": "its memory is full (maxmemory); raise the limit or prune",
    "LOADING": "it is loading its data",
    "READONLY": "it is a read-only replica; name the primary, or wait for the failover",
    "MISCONF": "it cannot write its data to disk; look into its log",
    "TRYAGAIN": "the cluster is moving these keys",
    "MOVED": "the cluster has moved these keys",
    "ASK": "the cluster is moving these keys",
    "CLUSTERDOWN": "the cluster is down",
    "MASTERDOWN": "its primary is down",
    "NOREPLICAS": "too few of its replicas are there (min-replicas-to-write)",
    "NOMASTERLINK": "its primary is down",
    "BUSY": "it is busy with a script",
    "NOSCRIPT": "it has forgotten a script again",
    "UNKILLABLE": "it is busy with a script",
}
#: By the name of redis-py's class.
_CLASSES: Final = {
    "OutOfMemoryError": "OOM",
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "ClusterDownError": "CLUSTERDOWN",
    "SlotNotCoveredError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "NoScriptError": "NOSCRIPT",
}
#: What Lua says when it meets a value that none of our scripts wrote.
_DAMAGE: Final = ("attempt to ", "bad argument", "Missing bytes in input", "Bad data format")
#: What a script in a cluster says while its slot is being moved, or as the cluster goes down.
_MOVING: Final = ("non local key", "while the cluster is down", "cluster is down")


def error_word(error: BaseException) -> str:
    """The word that an error reply began with, such as ``OOM``; "" where there was none.

    Inside a script the reply of the command that failed is quoted, in older servers with text
    before it.
    """
    known = _CLASSES.get(type(error).__name__)
    if known:
        return known
    text = str(error)
    for word in text.replace("-", " ").split()[:12]:
        if word in _PASSING or word in ("WRONGTYPE", "NOPERM", "NOAUTH", "WRONGPASS"):
            return word
    first = text.partition(" ")[0]
    return first if first.isupper() else ""


def translate(error: BaseException, where: str) -> BaseException:
    """``error``, raised or answered by redis-py, as one of livingai's; ``where`` is the store's
    address without credentials. Any other error is returned as it is."""
    import redis.exceptions as known  # noqa: PLC0415 - no driver before the store is used

    cause = error.__cause__
    if isinstance(error, known.RedisClusterException) and isinstance(cause, known.RedisError):
        error = cause  # the cluster client could not reach any node
    if isinstance(error, (known.AuthenticationError, known.AuthorizationError)):
        return StoreAuthenticationError(
            f"{where} refuses this user: {error}. Check user name and password of the URL "
            "(special characters percent-encoded)"
        )
    word = error_word(error)
    if isinstance(error, known.NoPermissionError) or word in ("NOPERM", "NOAUTH", "WRONGPASS"):
        return StoreAuthenticationError(
            f"{where} does not permit what livingai needs: {error}. Grant the user the commands "
            "and keys that docs/STORES.md lists (ACL SETUSER)"
        )
    if word in _PASSING:
        return StoreUnavailableError(f"{where} takes nothing for now: {_PASSING[word]} ({word})")
    text = str(error)
    if isinstance(error, known.ResponseError):
        if any(part in text for part in _MOVING):
            return StoreUnavailableError(f"{where} takes nothing for now: {_PASSING['TRYAGAIN']}")
        if word == "WRONGTYPE" or "exceeds maximum allowed size" in text:
            return RecordRefusedError(
                f"a key of this execution in {where} is not livingai's, or a value is too large: "
                f"{text}"
            )
        if "user_script" in text and any(part in text for part in _DAMAGE):
            return CorruptRowError(
                f"what {where} has of this execution is damaged ({text}): another program changed "
                "it; restore it from a copy, or remove its keys (docs/STORES.md names them)"
            )
        if "DB index" in text or "SELECT is not allowed" in text:
            return StoreFormatError(
                f"{where} has no such database ({text}); correct the number in the URL"
            )
        return StoreError(f"{where} failed: {text}")
    if isinstance(error, known.RedisClusterException):
        return _cluster_trouble(error, where)
    if isinstance(error, (known.RedisError, OSError)):
        return StoreUnavailableError(f"{where} cannot be reached: {text or type(error).__name__}")
    return error


def _cluster_trouble(error: BaseException, where: str) -> StoreError:
    if "Cluster mode is not enabled" in str(error):
        return StoreFormatError(f"{where} is no cluster; use a redis:// URL")
    return StoreUnavailableError(f"{where} cannot be used for now: {error}")
