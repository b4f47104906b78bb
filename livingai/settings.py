"""Settings in a file: which store, and how engines on it work.

Rules:

1. The file is ``livingai.toml``, or ``pyproject.toml`` with a table ``[tool.livingai]``. It is
   searched in a folder and all folders above; the nearest one counts, and in one folder
   ``livingai.toml``. Nothing is merged.
2. ``LIVINGAI_CONFIG`` names a file instead; empty, there is none.
3. A file that is found counts only if it belongs to this user or to root: whoever can write into a
   folder above (``/tmp``) could else say where data go and which Python runs the service. A file
   that is named is read whomever it belongs to. ``python`` is taken from a file that is named
   only: a folder that was cloned from somebody else belongs to this user, and its file must not
   decide what is run.
4. Keys are ``store`` and the fields of :class:`~livingai.EngineConfig`. A relative path in it is
   relative to the file's folder.
5. Settings are those of the file's store. For another store none of them counts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from livingai.config import EngineConfig
from livingai.errors import ConfigurationError
from livingai.keywords import check_keywords
from livingai.outcome import Durability
from livingai.stores.retention import Retention
from livingai.stores.whereabouts import same_file

#: Names a file of settings.
FILE_VARIABLE: Final = "LIVINGAI_CONFIG"
OWN_FILE: Final = "livingai.toml"
_PROJECT_FILE: Final = "pyproject.toml"
_KEYS: Final = ("store", *EngineConfig.__dataclass_fields__)
#: A larger file is not one of settings.
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a file of settings says. ``config`` has the engine's defaults where it says nothing."""

    #: The file; None: there is none.
    path: str | None = None
    #: The store's URL or path, absolute; None: the file names none.
    store: str | None = None
    config: EngineConfig = field(default_factory=EngineConfig)
    #: Files that were found and not read, as they belong to somebody else.
    passed_over: tuple[str, ...] = ()

    def config_of(self, store: str) -> EngineConfig:
        """The settings of engines on ``store`` (a file or URL): those of the file if it names that
        store or none, else the defaults."""
        if self.store is None or self.store == _anchored_store(store, os.getcwd()):
            return self.config
        paths = [_path_of(url) for url in (self.store, store)]
        return self.config if same_file(*paths) else EngineConfig()


def load_settings(
    path: str | os.PathLike[str] | None = None, *, folder: str | os.PathLike[str] | None = None
) -> FileSettings:
    """Settings from ``path``; without one from the file that ``LIVINGAI_CONFIG`` names, else from
    the nearest ``livingai.toml`` or ``[tool.livingai]`` of a ``pyproject.toml`` in ``folder``
    (default: the working directory) and the folders above.

    An engine reads no file by itself; a program that wants one passes it on::

        settings = load_settings()
        engine = CheckpointEngine(open_store(settings.store or "agent.db"), settings.config)

    Raises:
        ConfigurationError: the file cannot be read, or has a setting that is unknown or cannot
            work.
    """
    named = os.fspath(path) if path is not None else os.environ.get(FILE_VARIABLE)
    if named is not None:
        return _settings(Path(os.path.abspath(named)), ()) if named else FileSettings()
    passed_over: list[str] = []
    for candidate in _candidates(Path(os.path.abspath(folder or os.getcwd()))):
        try:
            owner = candidate.stat().st_uid
        except OSError:  # there is none, or the folder cannot be looked into
            continue
        if owner not in (0, os.geteuid()):
            passed_over.append(str(candidate))
            continue
        table = _table(candidate)
        if table is not None and "python" in table:
            raise ConfigurationError(
                f"{candidate} says which Python is run, which counts only in a file that is named: "
                f"set {FILE_VARIABLE}={candidate} if you trust it, or remove `python` from it"
            )
        if table is not None:
            return _settings(candidate, tuple(passed_over))
    return FileSettings(passed_over=tuple(passed_over))


def _candidates(folder: Path) -> Iterator[Path]:
    for each in (folder, *folder.parents):
        yield each / OWN_FILE
        yield each / _PROJECT_FILE


def _table(path: Path) -> dict[str, Any] | None:
    """The settings as the file has them; None: a ``pyproject.toml`` without any. One that cannot be
    read as TOML has none, too: that is for its own tools to say."""
    own = path.name != _PROJECT_FILE
    try:
        if not path.is_file():
            raise ConfigurationError(f"{path} is not a regular file")
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes")
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, ConfigurationError) as error:
        if not own:
            return None
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path} cannot be read as settings: {error}") from error
    if own:
        return values
    tool = values.get("tool")
    found = tool.get("livingai") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else None


def _settings(path: Path, passed_over: tuple[str, ...]) -> FileSettings:
    table = _table(path)
    if table is None:
        raise ConfigurationError(f"{path} has no table [tool.livingai]")
    try:
        check_keywords(table, _KEYS, "setting")
        values = {key: _value(key, value, path.parent) for key, value in table.items()}
        store = values.pop("store", None)
        config = EngineConfig(**values)
        config.validate()
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return FileSettings(str(path), store, config, passed_over)


def _value(key: str, value: Any, folder: Path) -> Any:
    """A setting as :class:`EngineConfig` takes it, from what TOML has for it."""
    if key == "durability":
        names = [each.name.lower() for each in Durability]
        if not isinstance(value, str) or value not in names:
            raise ConfigurationError(f"durability must be one of {', '.join(names)}, got {value!r}")
        return Durability[value.upper()]
    if key == "retention":
        return _retention(value)
    if key in ("store", "directory", "python"):
        if not isinstance(value, str) or not value or "\0" in value:
            raise ConfigurationError(f"{key} must be a text that is not empty, got {value!r}")
        if key == "store":
            return _anchored_store(value, str(folder))
        # A Python may be a name that is searched in PATH.
        return value if key == "python" and os.sep not in value else os.path.join(folder, value)
    if key == "history" and not isinstance(value, bool):
        raise ConfigurationError(f"history must be true or false, got {value!r}")
    return value


def _retention(value: Any) -> Retention:
    if not isinstance(value, dict):
        raise ConfigurationError(f"retention must be a table, got {value!r}")
    given: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in value.items()
    }
    retention = Retention(**given)
    retention.validate()
    return retention


def _anchored_store(url: str, folder: str) -> str:
    """``url`` with the path of a SQLite file made absolute, and so for both parts of a tier."""
    if url.startswith("tiered:"):
        hot, bar, cold = url.removeprefix("tiered:").partition("|")
        return f"tiered:{_anchored_store(hot, folder)}{bar}{_anchored_store(cold, folder)}"
    path = _path_of(url)
    return url if path is None else os.path.join(folder, path)


def _path_of(url: str) -> str | None:
    """The file that a URL or path means; None: it is no file."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    # One with parameters is refused where it is opened.
    return rest.removeprefix("/") or None if scheme == "sqlite" and "?" not in rest else None
