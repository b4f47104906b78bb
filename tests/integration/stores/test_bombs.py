"""Rows that say little and decode to much, planted in a store: the reader refuses them, lives on,
and needs no memory for them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import xxhash
import zstandard

from livingai import CheckpointEngine, ExecutionNode, Service, codecs
from livingai.errors import CorruptRecordError, LivingAIError, StateTooLargeError
from livingai.protocol.ask import ask_service
from livingai.protocol.verbs import STATUS
from livingai.stores.base import Row, Store
from livingai.stores.copying import copy_store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row
from tests.support.patience import patience
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import prefix_for, shared_server

GIB = 1 << 30
LIMIT = 64 << 20
#: What the reader may need besides: itself, and a state of the largest size twice.
SPARE = 2 * LIMIT + (96 << 20)
_CHUNK = bytes(1 << 24)


def zlib_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9)
    parts = [packer.compress(_CHUNK) for _ in range(size // len(_CHUNK))]
    return b"\x01" + b"".join(parts) + packer.flush()


def zstd_bomb(size: int, *, declared: bool, dictionary: bytes | None = None) -> bytes:
    packer = zstandard.ZstdCompressor(
        level=1, write_content_size=declared,
        dict_data=zstandard.ZstdCompressionDict(dictionary, dict_type=1) if dictionary else None,
    )  # fmt: skip
    out = io.BytesIO()
    with packer.stream_writer(out, size=size if declared else -1, closefd=False) as writer:
        for _ in range(size // len(_CHUNK)):
            writer.write(_CHUNK)
    return out.getvalue()


BASE = bytes(range(256)) * 4096  # 1 MiB


def head(codec: int, size: int, base: bytes) -> bytes:
    return struct.pack("<BQ16sQ", codec, size, codecs.content_hash(base), 0)


def copies_bomb(size: int) -> bytes:
    """The base, again and again."""
    count = size // len(BASE)
    table = struct.pack("<III", 0, 0, len(BASE)) * count
    return head(3, size, BASE) + struct.pack("<IB", count, 0) + table


def bombs() -> dict[str, bytes]:
    literals = zstd_bomb(GIB, declared=False)
    return {
        "zlib": zlib_bomb(GIB),
        "zstd": b"\x02" + zstd_bomb(GIB, declared=False),
        "zstd-declared": b"\x02" + zstd_bomb(GIB, declared=True),
        "copies": copies_bomb(4 * GIB),
        "literals": head(3, GIB, BASE) + struct.pack("<IB", 0, 1) + literals,
        "prefix": head(4, GIB, BASE) + zstd_bomb(GIB, declared=False, dictionary=BASE),
    }


def planted(name: str, blob: bytes, says: int) -> list[Row]:
    """Its base, and the bomb; ``says`` is the size that the row declares."""
    base = make_row(name, 1, blob=b"\0" + BASE, content_hash=codecs.content_hash(BASE))
    base.raw_bytes = len(BASE)
    row = make_row(name, 2, blob=blob, content_hash=xxhash.xxh3_128_digest(name.encode()))
    if blob[0] in (3, 4):
        row.base_hash = base.content_hash
    row.raw_bytes = says
    return [base, row]


@pytest.fixture(
    params=["sqlite", pytest.param("redis", marks=pytest.mark.redis),
            pytest.param("postgres", marks=pytest.mark.postgres)]
)  # fmt: skip
def store(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if request.param == "redis":
        made: Store = RedisStore(shared_server().url, prefix=prefix_for(tmp_path))
    elif request.param == "postgres":
        made = PostgresStore(shared_url(), schema=f"bomb{abs(hash(str(tmp_path))):x}")
    else:
        made = SQLiteStore(tmp_path / "agent.db")
    with made:
        yield made


def peak_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def test_a_planted_bomb_does_not_fill_the_readers_memory(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if isinstance(store, SQLiteStore):  # servers are not looked at in the end
        request.applymarker(pytest.mark.damaged("state-damaged"))
    sizes = {"small": 100, "unknown": 0, "largest": LIMIT, "honest": GIB, "huge": (1 << 62)}
    names = []
    for kind, blob in bombs().items():
        for said, size in sizes.items():
            names.append(f"{kind}-{said}")
            commit(store, planted(names[-1], blob, size))
    circle = [planted("circle", head(3, 10, b"other") + b"\0" * 5, 10)[1] for _ in range(2)]
    circle[1].seq, circle[1].node_id = 3, "circle/3"
    circle[1].wire = make_row("circle", 3).wire
    one, two = circle[0].content_hash, b"2" * 16
    for row, mine, base in ((circle[0], one, two), (circle[1], two, one)):
        assert row.blob is not None
        assert base is not None
        row.blob = row.blob[:9] + base + row.blob[25:]
        row.base_hash, row.content_hash, row.claim = None, mine, "circle"
    commit(store, circle)
    spec = store.spec()
    with Service(spec.build()), CheckpointEngine(spec.build()) as engine:
        engine.save_sync(ExecutionNode("good"), {"fine": True}).result(patience(30))
        engine.open_handle()
        assert engine.load_sync(engine.nodes_sync("good")[0].id)[1] == {"fine": True}
        directory = engine.open_handle().directory
        (before,) = {_reader(directory, store.url)}
        peak_before = peak_bytes(before)
        for name in [*names, "circle"]:
            large = name.endswith(("honest", "huge"))
            error = StateTooLargeError if large else CorruptRecordError
            with pytest.raises(error, match=name if large else "."):
                engine.latest_sync(name)
            with pytest.raises(LivingAIError):
                engine.load_sync(f"{name}/3" if name == "circle" else f"{name}/2")
            assert len(engine.nodes_sync(name)) == 2, "its nodes are readable all the same"
        engine.save_sync(ExecutionNode("good"), {"fine": "still"}).result(patience(30))
        assert engine.latest_sync("good")[1] == {"fine": "still"}
        assert _reader(directory, store.url) == before, "it is the same process"
        assert peak_bytes(before) - peak_before < SPARE
    me = psutil.Process()
    with SQLiteStore(tmp_path / "copied.db") as target:
        peak = me.memory_info().rss
        copy_store(store, target)
        assert me.memory_info().rss - peak < 2 * SPARE


def _reader(directory: Any, url: str) -> int:
    pid = ask_service(directory, url, STATUS, timeout_s=30).pids.reader
    assert isinstance(pid, int)
    return pid


def test_the_limit_of_the_asking_engine_counts(store: Store) -> None:
    """The limit is that of the engine that asks, not of the engine that started the service."""
    spec = store.spec()
    raw = b"x" * (1 << 20)
    small, large = 1 << 16, 96 << 20
    with Service(spec.build()):
        with CheckpointEngine(spec.build(), max_state_bytes=large) as engine:
            engine.save_sync(ExecutionNode("big", id="n"), raw * 80).result(patience(60))
            engine.save_sync(ExecutionNode("fits", id="m"), raw).result(patience(60))
            engine.drain_sync()
        with CheckpointEngine(spec.build(), max_state_bytes=large, cache_ttl_s=0.001) as engine:
            assert engine.latest_sync("big")[1] == raw * 80
            assert engine.history_sync("big").state == raw * 80
        with CheckpointEngine(spec.build(), cache_ttl_s=0.001) as engine:
            for read in (engine.latest_sync, engine.history_sync):
                with pytest.raises(StateTooLargeError, match="big has 83886080 bytes by its row"):
                    read("big")
            assert engine.latest_sync("fits")[1] == raw
        with (
            CheckpointEngine(spec.build(), max_state_bytes=small, cache_ttl_s=0.001) as engine,
            pytest.raises(StateTooLargeError, match="max_state_bytes=65536"),
        ):
            engine.load_sync("m")
