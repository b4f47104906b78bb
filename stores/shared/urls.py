"""URLs of servers: shown without credentials, and as the name of a state directory.

Rules:

1. Nothing that could be a secret is ever shown: the whole user part goes, and of the query only
   parameters that are known to name a place stay (a list of what to hide would miss the next one).
2. Two URLs of one place give one text, whatever their credentials: agents with different passwords
   share a state directory.
3. An error about a URL does not repeat the URL.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from urllib.parse import parse_qsl, quote, urlencode

from livingai.errors import ConfigurationError
from livingai.places import state_home

#: Query parameters that say where a store is.
PLACE = frozenset({"host", "hostaddr", "port", "dbname", "service", "schema", "db", "namespace"})
_READABLE_CHARS = 40


def redacted(url: str, keep: Collection[str] = PLACE) -> str:
    """``url`` without user, password, fragment, and query parameters that are not in ``keep``.

    Raises:
        ConfigurationError: it is no URL, or it is not clear where its password ends.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*", scheme):
        raise ConfigurationError("a store's URL begins with its scheme, such as postgresql://")
    place, _, query = rest.partition("#")[0].partition("?")
    if "@" in query or "#" in rest or "/" in place.rpartition("@")[0]:
        raise ConfigurationError(
            f"in the {scheme}:// URL the characters @ / ? # of a password, and @ in a parameter, "
            "must be percent-encoded: %40 %2F %3F %23"
        )
    authority, slash, path = place.rpartition("@")[2].partition("/")
    kept = sorted(
        (name, value) for name, value in parse_qsl(query.replace("+", "%2B")) if name in keep
    )
    shown = f"{scheme.lower()}://{authority.lower()}{slash}{path}"
    return f"{shown}?{urlencode(kept, safe='/', quote_via=quote)}" if kept else shown


def state_directory(kind: str, url: str) -> str:
    """Where the state directory of a server's store is: in :func:`livingai.places.state_home`,
    named by ``kind``, a readable part of ``url`` and its hash. ``url`` is a redacted one.

    Raises:
        ConfigurationError: this user has no home.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", url.partition("://")[2]).strip("-.")
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name = "-".join(filter(None, (kind, readable[:_READABLE_CHARS], digest)))
    return os.path.join(state_home(), name)
