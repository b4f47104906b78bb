"""One frozen configuration object, validated in one place."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypedDict

from livingai.errors import ConfigurationError
from livingai.keywords import check_keywords, checked
from livingai.names_04 import MEASURED, refuse_old
from livingai.outcome import Durability
from livingai.queue.space import JournalLimits
from livingai.stores.base import Store, StoreSpec
from livingai.stores.retention import Retention

Traces = Literal["off", "saves", "nodes"]
LogFormat = Literal["text", "json"]
OnFull = Literal["block", "raise", "write_through"]
ServiceMode = Literal["auto", "attach"]
_MIB = 1 << 20
#: Also what the reader decodes at most for an engine that does not say.
DEFAULT_MAX_STATE_BYTES = 64 * _MIB
#: Seconds that a service which is asked to end takes to store what is queued.
DEFAULT_DRAIN_S = 10.0
#: Times, in seconds or milliseconds, that fit into every clock: 31 years or 11 days.
_LONGEST = 1e9
#: In any case the dispatcher looks at its journals every 200 ms.
_LONGEST_LINGER_MS = 100
_LAST_PORT = 65535
#: Settings of a service that earlier versions do not know, and those that its workers do not need.
_LATER = ("linger_ms", "drain_s", "metrics", "metrics_file", "journal_bytes", "log_format")
_NOT_FOR_THEM = ("linger_ms", "drain_s", "metrics", "metrics_file", "journal_bytes")
_MAY_BE_ENDLESS = ("budget_ms", "on_full_timeout_s")


class ServiceKeywords(TypedDict, total=False):
    """The fields of :class:`EngineConfig` but ``directory`` as keywords, for type checkers and
    editors."""

    budget_ms: float
    durability: Durability
    linger_ms: float
    cache_bytes: int
    cache_ttl_s: float
    journal_bytes: int
    segment_bytes: int
    max_state_bytes: int
    patch_from_bytes: int
    compressors: int | None
    writers: int | None
    codec: str
    on_full: OnFull
    on_full_timeout_s: float
    fsync_interval_ms: float
    history: bool
    service_timeout_s: float
    retention: Retention | None
    idle_s: float
    drain_s: float
    service: ServiceMode
    served_grace_s: float
    python: str | None
    metrics: str | None
    metrics_file: str | None
    log_format: LogFormat
    traces: Traces


class EngineKeywords(ServiceKeywords, total=False):
    """All fields of :class:`EngineConfig` as keywords."""

    directory: str | None


@checked("setting of EngineConfig")
@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of a :class:`~livingai.CheckpointEngine`. Sizes in bytes, times as named."""

    #: A write stored later than this is ``late``.
    budget_ms: float = 50.0
    #: The level that ``save`` waits for; ``Durability.JOURNAL`` waits for nothing.
    durability: Durability = Durability.JOURNAL
    #: For so long (0 to 100) the service of this engine may leave writes for whose outcome nobody
    #: waits, so that several are stored at the cost of one. One with a budget of less than twice
    #: that is stored at once, as is one that is waited for.
    linger_ms: float = 25.0
    #: State directory; None: derived from the store.
    directory: str | None = None
    #: Stored records of this process that stay readable in the hot cache.
    cache_bytes: int = 256 * _MIB
    #: Age from which a cached state is read from the store instead.
    cache_ttl_s: float = 3600.0
    #: Most that this process's journal may hold; see ``on_full``.
    journal_bytes: int = 1024 * _MIB
    #: Size of a journal file.
    segment_bytes: int = 16 * _MIB
    #: Largest encoded state that ``save`` accepts, and that is read from the store.
    max_state_bytes: int = DEFAULT_MAX_STATE_BYTES
    #: States of so many bytes and more are written to the journal as what has changed, where that
    #: is little; 0: never.
    patch_from_bytes: int = 128 * 1024
    #: Compressor processes of the service that this engine starts; None: one per core, at most 4.
    compressors: int | None = None
    #: Writer processes; None: one per two cores, as far as the store takes them.
    writers: int | None = None
    #: Codec of stored states: "auto", "zstd", "zlib" or "raw".
    codec: str = "auto"
    #: A full journal blocks ``save`` (up to ``on_full_timeout_s``, then raises), raises at once, or
    #: makes ``save`` wait until the store has taken the record.
    on_full: OnFull = "block"
    on_full_timeout_s: float = 30.0
    #: The journal is synced to disk at least this often while it has unsynced records.
    fsync_interval_ms: float = 100.0
    #: Keep every state; with False a state that is overtaken in the queue may be ``superseded``.
    history: bool = True
    #: How long reads and barriers wait for the service.
    service_timeout_s: float = 30.0
    #: What the service of this engine drops from the store by itself, every minute; None: nothing.
    retention: Retention | None = None
    #: The service ends this long after its last agent left and everything is stored.
    idle_s: float = 2.0
    #: A service that is asked to end stores what is queued for so long at most; what is left then
    #: waits in the journals. One that is to take its place waits a minute for that.
    drain_s: float = DEFAULT_DRAIN_S
    #: "auto": an engine that finds no service starts one. "attach": it never does, and waits for
    #: the one that is run apart (``livingai serve``); writes wait in the journal.
    service: ServiceMode = "auto"
    #: How long an "auto" engine leaves a service of ``livingai serve`` that has ended the time to
    #: come back, before it starts one of its own.
    served_grace_s: float = 10.0
    #: The Python that runs the service, for programs that are none (frozen, embedded); it must be
    #: able to import livingai. None: the one that runs this program.
    python: str | None = None
    #: "HOST:PORT" (":9464" is this machine alone, port 0 a free one): where the service that this
    #: engine starts serves its metrics to Prometheus, and /livez and /readyz. None: nowhere. Needs
    #: livingai[metrics]. See docs/METRICS.md.
    metrics: str | None = None
    #: A file "NAME.prom" that the service of this engine replaces with its metrics every 15 s, for
    #: the textfile collector of Prometheus' node_exporter. Needs livingai[metrics].
    metrics_file: str | None = None
    #: How the service of this engine writes its log: "text", or "json", one object a line.
    log_format: LogFormat = "text"
    #: Spans of OpenTelemetry: "saves" for saves and their commits, "nodes" for prompts and tools
    #: that are saved as ended, too. Needs livingai[otel], and an SDK that the program sets up.
    traces: Traces = "off"

    @classmethod
    def build(
        cls, config: EngineConfig | None, settings: ServiceKeywords | EngineKeywords, what: str
    ) -> EngineConfig:
        """``config`` with ``settings`` instead of its own, validated; ``what`` takes them.

        Raises:
            ConfigurationError: a setting is unknown or cannot work.
        """
        if config is not None and not isinstance(config, EngineConfig):
            raise ConfigurationError(f"config must be an EngineConfig, not {config!r:.200}")
        refuse_old(settings, "CheckpointEngine")
        check_keywords(settings, cls.__dataclass_fields__, f"setting of {what}")
        config = replace(config or cls(), **settings)
        config.validate()
        return config

    def validate(self) -> None:
        """Raise :class:`~livingai.errors.ConfigurationError` for a setting that cannot work."""
        self._validate_numbers()
        if self.directory is not None and not isinstance(self.directory, str | os.PathLike):
            raise ConfigurationError(f"directory must be a path, got {self.directory!r}")
        if not 64 * 1024 <= self.segment_bytes <= 1 << 31:
            raise ConfigurationError("segment_bytes must be between 64 KiB and 2 GiB")
        if self.max_state_bytes > 1 << 31:
            raise ConfigurationError("max_state_bytes must be at most 2 GiB")
        if self.journal_bytes < 2 * self.segment_bytes:
            raise ConfigurationError("journal_bytes must be at least twice segment_bytes")
        if self.on_full not in ("block", "raise", "write_through"):
            raise ConfigurationError(
                f"on_full must be block, raise or write_through, got {self.on_full!r}"
            )
        self._validate_choices()
        if self.python is not None and not (self.python and isinstance(self.python, str)):
            raise ConfigurationError(f"python must be the path of a Python, got {self.python!r}")
        self._validate_metrics()
        if not isinstance(self.durability, Durability):
            raise ConfigurationError("durability must be a livingai.Durability")
        if self.retention is not None:
            self.retention.validate()
        for name in ("compressors", "writers"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value <= 64):
                raise ConfigurationError(f"{name} must be between 1 and 64, or None")

    def _validate_choices(self) -> None:
        if self.codec not in ("auto", "zstd", "zlib", "raw"):
            raise ConfigurationError(f"codec must be auto, zstd, zlib or raw, got {self.codec!r}")
        if self.service not in ("auto", "attach"):
            raise ConfigurationError(f"service must be auto or attach, got {self.service!r}")
        if self.log_format not in ("text", "json"):
            raise ConfigurationError(f"log_format must be text or json, got {self.log_format!r}")
        if self.traces not in ("off", "saves", "nodes"):
            raise ConfigurationError(f"traces must be off, saves or nodes, got {self.traces!r}")

    def _validate_metrics(self) -> None:
        if self.metrics is not None and not isinstance(self.metrics, str):
            raise ConfigurationError(
                f"metrics must be 'HOST:PORT' or None, not {self.metrics!r:.100}; in livingai 0.4 "
                f"it was an object, instead of which there is now {MEASURED}"
            )
        if self.metrics is not None:
            parse_address(self.metrics, "metrics")
        file = self.metrics_file
        if file is not None and not (isinstance(file, str) and file.endswith(".prom")):
            raise ConfigurationError(
                f"metrics_file must be a path that ends in .prom (node_exporter reads no others), "
                f"got {file!r}"
            )
        if self.metrics is None and file is None:
            return
        from importlib.util import find_spec  # noqa: PLC0415 - most engines need it not

        if find_spec("prometheus_client") is None:
            raise ConfigurationError(
                "metrics need prometheus_client, which is not installed: "
                "pip install 'livingai[metrics]'"
            )

    def _validate_numbers(self) -> None:
        positive = (
            "budget_ms", "cache_ttl_s", "journal_bytes", "segment_bytes", "max_state_bytes",
            "on_full_timeout_s", "fsync_interval_ms", "service_timeout_s",
        )  # fmt: skip
        may_be_zero = (
            "linger_ms", "cache_bytes", "patch_from_bytes", "idle_s", "drain_s", "served_grace_s",
        )  # fmt: skip
        for name in (*positive, *may_be_zero):
            value = getattr(self, name)
            kinds = int if name.endswith("_bytes") else int | float
            if not isinstance(value, kinds) or not value >= 0 or (not value and name in positive):
                raise ConfigurationError(f"{name} must be a positive number, got {value!r}")
            if not name.endswith("_bytes") and value > _LONGEST and name not in _MAY_BE_ENDLESS:
                raise ConfigurationError(f"{name} must be at most {_LONGEST:g}, got {value!r}")
        if self.linger_ms > _LONGEST_LINGER_MS:
            raise ConfigurationError(f"linger_ms must be at most {_LONGEST_LINGER_MS}")

    def limits(self) -> JournalLimits:
        """The journal's part."""
        return JournalLimits(
            segment_bytes=self.segment_bytes,
            journal_bytes=self.journal_bytes,
            cache_bytes=self.cache_bytes,
            cache_ttl_s=self.cache_ttl_s,
        )


def parse_address(text: str, what: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT"; an IPv6 host stands in brackets, no host is 127.0.0.1.

    Raises:
        ConfigurationError: it is no such text; ``what`` is it.
    """
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > _LAST_PORT:
        raise ConfigurationError(f"{what} must be HOST:PORT, such as 127.0.0.1:9464, got {text!r}")
    if ":" in host and not bracketed:
        raise ConfigurationError(f"{what}: an IPv6 address stands in brackets, got {text!r}")
    return (host[1:-1] if bracketed else host) or "127.0.0.1", int(port)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What the service's processes need to know; sent to them through a pipe, never on a command
    line, because the store's arguments may hold credentials."""

    directory: str
    store_path: str
    store_kwargs: dict[str, Any]
    compressors: int
    writers: int
    codec: str
    idle_s: float
    cache_bytes: int
    foreground: bool = False
    #: Run by ``livingai serve``: it will come back.
    served: bool = False
    retention: dict[str, Any] | None = None
    linger_ms: float = 25.0
    #: Where the exporter serves metrics, and the file that it writes; "": neither. And how much the
    #: journals of agents may hold, as far as is known here: for /readyz.
    metrics: str = ""
    metrics_file: str = ""
    journal_bytes: int = 0
    log_format: str = "text"
    drain_s: float = DEFAULT_DRAIN_S

    @classmethod
    def build(
        cls,
        store: Store,
        directory: str,
        config: EngineConfig,
        *,
        foreground: bool = False,
        served: bool = False,
    ) -> ServiceConfig:
        """The service's settings for ``store``, with the defaults worked out."""
        spec = store.spec()
        cores = os.cpu_count() or 1
        most = store.capabilities.max_writers
        return cls(
            directory=directory,
            store_path=spec.path,
            store_kwargs=spec.kwargs,
            compressors=config.compressors or min(4, cores),
            writers=min(config.writers or max(1, cores // 2), most),
            codec=config.codec,
            idle_s=config.idle_s,
            cache_bytes=config.cache_bytes,
            foreground=foreground,
            served=served,
            retention=config.retention.to_wire() if config.retention else None,
            linger_ms=config.linger_ms,
            metrics=config.metrics or "",
            metrics_file=os.path.abspath(config.metrics_file) if config.metrics_file else "",
            journal_bytes=config.journal_bytes if config.metrics else 0,
            log_format=config.log_format,
            drain_s=config.drain_s,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the pipe; :meth:`from_dict` reads them. A process of an earlier livingai
        refuses what it does not know, so what is new is there only where it is not the default."""
        values = asdict(self)
        for each in fields(self):
            if each.name in _LATER and values[each.name] == each.default:
                del values[each.name]
        return values

    def for_workers(self) -> dict[str, Any]:
        """As :meth:`to_dict`, without what only others need."""
        return {name: value for name, value in self.to_dict().items() if name not in _NOT_FOR_THEM}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ServiceConfig:
        """The settings that another process has sent; those that a later livingai has added are
        left out. Raises TypeError where one is missing."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def spec(self) -> StoreSpec:
        """How to build the store."""
        return StoreSpec(self.store_path, self.store_kwargs)
