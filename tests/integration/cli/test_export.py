"""`livingai export` and `import`: what goes through a file is what was there, on every store."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from livingai import CheckpointEngine, ErrorInfo, ExecutionNode, NodeType, Service, Status
from livingai.stores.opening import open_store
from livingai.stores.retention import Retention, prune
from tests.support import acts
from tests.support.agents import environment
from tests.support.held import held
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import shared_server
from tests.support.waiting import ended

#: One run for each: values that JSON cannot give back, and some that look as if it could not.
ODD: dict[str, Any] = {
    "bytes": b"\0\xff raw", "bytearray": bytearray(b"xyz"), "tuple": (1, (2,)), "set": {1, 2},
    "nan": float("nan"), "infinite": [float("inf"), -0.0], "number keys": {1: "a", "1": "b"},
    "decimal": Decimal("1.50"), "date": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    "uuid": uuid.UUID(int=5),
    "large": 10**5000, "surrogate": "\ud800", "text": "\u2028 \x1b[2J é", "empty": {}, "zero": 0,
    "no bytes": b"", "list": [1.0, 1, True, None], "big": 2**63,
}  # fmt: skip
HOSTILE = 'run \x1b[2J\u202e\n"}{'


def ran(
    folder: Path, *arguments: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """A command, run to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments], env=environment(**env), cwd=folder,
        input=stdin, capture_output=True, timeout=patience(120), check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def fill(engine: CheckpointEngine) -> None:
    """Runs of all kinds."""
    for name, value in ODD.items():
        node = ExecutionNode(
            f"odd {name}", NodeType.MEMORY, Status.SUCCESS, input=value, output=[value],
            metadata={"name": name, "value": value}, cost_tokens=len(name), latency_ms=0.1,
        )  # fmt: skip
        engine.save_sync(node, value)
    for number in range(60):  # states that resemble each other: stored as deltas
        items = [f"item {each} of a list that grows" for each in range(number * 3)]
        engine.save_sync(
            ExecutionNode("long", cost_tokens=1, id=f"long/{number}"), {"items": items}
        )
    engine.save_sync(ExecutionNode(HOSTILE, status=Status.RUNNING), {"is": HOSTILE})
    with engine.run_sync("durable") as run:
        run.step("plan", lambda: ["a", "b"])
        run.tool("charge", lambda amount: {"charged": amount}, amount=5)
        run.state = {"step": 1}
        run.checkpoint()
    with engine.run_sync("durable"):
        pass
    failed = ErrorInfo("ValueError", "no", "a\ntrace", True)
    tool = ExecutionNode("failed", NodeType.TOOL, Status.RUNNING, metadata={"name": "call"})
    engine.save_sync(tool)
    tool.status, tool.error = Status.FAILED, failed
    engine.save_sync(ExecutionNode("failed", parent_id=tool.id), "between")
    engine.save_sync(tool)
    engine.drain_sync()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all of it, some states of which retention has dropped."""
    path = tmp_path_factory.mktemp("source") / "agent.db"
    store = open_store(str(path))
    with Service(store), CheckpointEngine(store) as engine:
        fill(engine)
    with store:
        assert prune(store, Retention(keep_last=40, prefix="long")).checkpoints
    return path


def test_round_trip(
    source: Path, tmp_path: Path, store_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From SQLite into another store, and from there into a new one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    there, back = target_url(store_kind, tmp_path), str(tmp_path / "back.db")
    one, two = str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl.zst")
    assert ran(tmp_path, "export", "-s", str(source), "-o", one).returncode == 0
    done = ran(tmp_path, "import", one, there, "--json")
    assert done.returncode == 0, done.stderr
    runs = len(held(str(source))) - 1
    assert json.loads(done.stdout)["runs"] == runs
    assert held(there) == held(str(source))
    assert ran(tmp_path, "export", "-s", there, "-o", two).returncode == 0
    assert ran(tmp_path, "import", two, "-s", back).returncode == 0
    assert held(back) == held(str(source))
    done = ran(tmp_path, "import", two, there, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["runs"], told["there"]) == (0, 0, runs)
    assert held(there) == held(str(source))


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def store_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def target_url(kind: str, folder: Path) -> str:
    """An empty store."""
    name = f"t_{secrets.token_hex(6)}"
    if kind == "redis":
        return f"{shared_server().url}?prefix={name}"
    return f"{shared_url()}&schema={name}" if kind == "postgres" else str(folder / "there.db")


def test_what_a_person_reads(source: Path, tmp_path: Path) -> None:
    """Plain values are plain JSON, one write a line, and what is named is exported."""
    done = ran(tmp_path, "export", "-s", str(source), "failed", "odd tuple", "odd list")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(line)[-1] == "sum" for line in lines)
    assert lines[0]["livingai"]["format"] == 1
    assert [line["run"] for line in lines if "run" in line] == ["failed", "odd tuple", "odd list"]
    assert lines[-1]["runs"] == 3
    writes = [line["write"] for line in lines if "write" in line]
    assert [write["node"]["status"] for write in writes] == [
        "failed",
        "pending",
        "failed",
        *2 * ["success"],
    ]
    assert [write.get("state") for write in writes] == [None, "between", None, None, ODD["list"]]
    assert writes[3]["state_base64"]
    assert sorted(writes[3]["node_base64"]) == ["input", "metadata", "output"]
    assert ran(tmp_path, "export", "-s", str(source), "nobody").returncode == 1
    assert ran(tmp_path, "export", "-s", "nope.db").returncode == 3
    assert ran(tmp_path, "export", "-s", str(source), "x", "--prefix", "y").returncode == 2
    assert ran(tmp_path, "export", "-s", str(source), "-o", "no/folder").returncode == 1


def test_new_names(source: Path, tmp_path: Path) -> None:
    """Beside the runs that it was made of, with nodes of their own."""
    there = str(tmp_path / "there.db")
    exported = ran(tmp_path, "export", "-s", str(source), "--prefix", "long").stdout
    for _ in range(2):
        done = ran(tmp_path, "import", "-", there, stdin=exported)
        assert done.returncode == 0, done.stderr
        done = ran(tmp_path, "import", "-", there, "--prefix", "old/", stdin=exported)
        assert done.returncode == 0, done.stderr
    found = held(there)
    assert sorted(found) == ["costs", "long", "old/long"]
    assert found["long"] == held(str(source))["long"]
    states = [[state[5] for state in found[run]["states"]] for run in ("long", "old/long")]
    assert states[0] == states[1]
    ids = [{state[2] for state in found[run]["states"]} for run in ("long", "old/long")]
    assert not ids[0] & ids[1]
    assert [line.cost_tokens for line in found["costs"]] == [60, 60]
    assert (
        ran(tmp_path, "import", "-", there, "--prefix", "x" * 510, stdin=exported).returncode == 4
    )


def test_another_run_of_the_same_id_is_left_alone(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    store = open_store(str(there))
    with Service(store), CheckpointEngine(store) as engine:
        engine.save_sync(ExecutionNode("failed"), "mine")
        engine.drain_sync()
    before = held(str(there))["failed"]
    exported = ran(tmp_path, "export", "-s", str(source)).stdout
    done = ran(tmp_path, "import", "-", str(there), "--json", stdin=exported)
    told = json.loads(done.stdout)
    assert (done.returncode, list(told["refused"])) == (1, ["failed"])
    assert b"failed was not imported" in done.stderr
    after, expected = held(str(there)), held(str(source))
    assert after["failed"] == before
    assert {run: after[run] for run in after if run not in ("failed", "costs")} == {
        run: expected[run] for run in expected if run not in ("failed", "costs")
    }


def test_damaged_lines(source: Path, tmp_path: Path) -> None:
    """Each is told of by its number, and nothing of its run is imported; what is before it is."""
    exported = ran(tmp_path, "export", "-s", str(source), "failed", "long").stdout
    lines = exported.splitlines(keepends=True)
    number = 20  # in the second run
    unsummed = json.loads(lines[number - 1])
    del unsummed["sum"]

    def edited(**changes: Any) -> bytes:
        return json.dumps({"write": unsummed["write"] | changes}).encode() + b"\n"

    def stated(kind: int, raw: str) -> bytes:
        write = {key: unsummed["write"][key] for key in unsummed["write"] if key != "state"}
        write |= {"kind": kind, "state_base64": raw}
        return json.dumps({"write": write}).encode() + b"\n"

    def noded(**changes: Any) -> bytes:
        return edited(node=unsummed["write"]["node"] | changes)

    flipped = bytearray(lines[number - 1])
    flipped[60] ^= 1
    for damaged in (
        bytes(flipped), lines[number - 1][:-40] + b"\n", b"\n", b"[1]\n", b"[" * 100_000 + b"\n",
        b'{"write": 1}\n', edited(extra=1), edited(epoch=0), edited(seq=True), edited(seq=1 << 63),
        edited(node={}), edited(kind=1), edited(kind=77), edited(state_base64="AA=="),
        edited(seq=1 << 62), edited(epoch=1 << 62), stated(77, "AA=="), stated(2, "wQ=="),
        stated(0, ""), noded(id="x" * 513), noded(parent_id=""), noded(parent_id="é" * 257),
        edited(claim=None), edited(saved_at="x"), edited(saved_at=1e400),
        edited(claim="\ud800"), edited(node_base64={"id": "wQ=="}),
        lines[number - 2], lines[0], lines[-1], b"\xff\xfe\n",
    ):  # fmt: skip
        there = tmp_path / f"{secrets.token_hex(4)}.db"
        text = b"".join([*lines[: number - 1], damaged, *lines[number:]])
        done = ran(tmp_path, "import", "-", str(there), stdin=text)
        assert (done.returncode, done.stdout) == (4, b""), damaged[:100]
        assert f"line {number}: ".encode() in done.stderr, (damaged[:100], done.stderr)
        assert len(done.stderr) < 1000
        assert sorted(held(str(there))) == ["costs", "failed"]
    for cut in (b"".join(lines[:-1]), b"".join(lines[:number]), exported[:-20]):
        done = ran(tmp_path, "import", "-", "cut.db", stdin=cut)
        assert done.returncode == 4
        assert (
            f"line {len(cut.splitlines()) + cut.endswith(b'}' + bytes([10]))}: ".encode()
            in done.stderr
        )
    assert ran(tmp_path, "import", "-", "new.db", stdin=b"").returncode == 4
    assert ran(tmp_path, "import", "-", "new.db", stdin=b"key = 1\n").returncode == 4
    assert not (tmp_path / "new.db").exists(), "nothing is made by an import that fails"
    newer = lines[0].replace(b'"format":1', b'"format":2').rpartition(b',"sum"')[0] + b"}\n"
    assert b"upgrade livingai" in ran(tmp_path, "import", "-", "new.db", stdin=newer).stderr
    assert ran(tmp_path, "import", "none.jsonl", "new.db").returncode == 3
    packed = gzip.compress(exported)
    for broken in (packed[:-200], packed[:500] + b"x" * 100 + packed[600:]):
        (tmp_path / "broken.gz").write_bytes(broken)
        done = ran(tmp_path, "import", "broken.gz", "broken.db")
        assert (done.returncode, b"line " in done.stderr) == (4, True), done.stderr


def test_an_edited_line_is_taken(source: Path, tmp_path: Path) -> None:
    lines = ran(tmp_path, "export", "-s", str(source), "failed").stdout.splitlines()
    at, line = next((i, json.loads(line)) for i, line in enumerate(lines) if b"between" in line)
    changed = [*lines[:at], lines[at].replace(b"between", b"BETWEEN"), *lines[at + 1 :]]
    done = ran(tmp_path, "import", "-", "there.db", stdin=b"\n".join(changed))
    assert (done.returncode, b'by its "sum"' in done.stderr) == (4, True)
    line["write"]["state"] = {"edited": True}
    lines[at] = json.dumps(line).encode()
    done = ran(tmp_path, "import", "-", "there.db", stdin=b"\n".join(lines))
    assert (done.returncode, b'"sum"' in done.stderr) == (4, True)
    del line["sum"]
    lines[at] = json.dumps(line).encode()
    assert ran(tmp_path, "import", "-", "there.db", stdin=b"\n".join(lines)).returncode == 0
    assert b'"edited": true' in ran(tmp_path, "state", "-s", "there.db", "failed").stdout


@pytest.mark.parametrize("hit", [1, 2, 3, 5])
def test_an_import_that_is_killed(source: Path, tmp_path: Path, hit: int) -> None:
    """At a commit, into the stage or the target; the second one completes it."""
    exported = ran(tmp_path, "export", "-s", str(source)).stdout
    env = {"LIVINGAI_TESTING": "1", "LIVINGAI_FAILPOINTS": f"sqlite.after_commit=kill*{hit}",
           "TMPDIR": str(tmp_path)}  # fmt: skip
    done = ran(tmp_path, "import", "-", "there.db", stdin=exported, **env)
    assert done.returncode == -signal.SIGKILL, "it reached that commit"
    done = ran(tmp_path, "import", "-", "there.db", stdin=exported)
    assert done.returncode == 0, done.stderr
    assert held(str(tmp_path / "there.db")) == held(str(source))


def test_a_damaged_run_is_left_out(source: Path, tmp_path: Path) -> None:
    copied = tmp_path / "damaged.db"
    copied.write_bytes(source.read_bytes())
    with closing(sqlite3.connect(copied)) as database, database:
        database.execute(
            "UPDATE blobs SET blob = x'02ffff' WHERE blob_id = "
            "(SELECT max(blob_id) FROM checkpoints WHERE execution_id = 'long')"
        )
    done = ran(tmp_path, "export", "-s", "damaged.db", "-o", "out.gz", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, list(told["left_out"])) == (4, ["long"])
    done = ran(tmp_path, "import", "out.gz", "there.db")
    assert (done.returncode, b"long is not in the export" in done.stderr) == (1, True)
    expected = held(str(source))
    found = held(str(tmp_path / "there.db"))
    assert {run: found[run] for run in found if run != "costs"} == {
        run: expected[run] for run in expected if run not in ("costs", "long")
    }


def test_while_agents_write_and_what_waits_is_stored_first(state_dir: Place) -> None:
    """Each run is exported as it stood at one moment: its newest state is that of its newest save
    up to then, with all before it."""
    agent = state_dir.agent()
    agent.call(acts.start, ["busy"], interval_s=0.02)
    acts_seen = agent.call(acts.saved, 20)
    assert acts_seen >= 20
    done = ran(state_dir.folder, "export", "-s", "agent.db", "-o", "out.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    agent.call(acts.halt)
    assert agent.leave() == 0
    assert ran(state_dir.folder, "import", "out.jsonl", "there.db").returncode == 0
    ours, theirs = held(str(state_dir.database)), held(str(state_dir.folder / "there.db"))
    assert told["runs"] == len(theirs) - 1 >= 1
    for run in theirs:
        if run != "costs" and run not in told["moving"]:
            count = len(theirs[run]["states"])
            assert theirs[run]["states"] == ours[run]["states"][:count]
            assert count >= 20


def test_a_reader_that_goes_away_and_ctrl_c(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "livingai.cli", "export", "-s", str(source)]
    process = subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert ended(process) in (0, 1, 141)
    os.mkfifo(tmp_path / "pipe")  # nobody reads it yet
    process = subprocess.Popen(
        [*command, "-o", "pipe"], env=environment(), cwd=tmp_path, stderr=subprocess.PIPE
    )
    with (tmp_path / "pipe").open("rb") as reading:
        assert reading.read(10) == b'{"livingai'
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
        process.stderr.close()
        assert ended(process) == 1
    assert told.strip() == b"Aborted!"
    assert not list(tmp_path.glob(".*.part"))


def unsummed(line: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line)
    del value["sum"]
    return value


def test_a_write_that_no_store_has_made(source: Path, tmp_path: Path) -> None:
    """A wrong claim is only seen beside the writes before it, when several runs are staged: it is
    told of by its line, and the runs before it are imported."""
    wanted = ["odd bytes", "odd tuple", "long", "failed"]
    lines = ran(tmp_path, "export", "-s", str(source), *wanted).stdout.splitlines()
    start = lines.index(next(line for line in lines if line.startswith(b'{"run":"failed"')))
    number = start + 3
    wrong = unsummed(lines[number - 1])
    wrong["write"]["claim"] = "another"
    lines[number - 1] = json.dumps(wrong).encode()
    done = ran(tmp_path, "import", "-", "there.db", stdin=b"\n".join(lines))
    assert (done.returncode, done.stdout) == (4, b"")
    assert f"line {number}: run 'failed'".encode() in done.stderr, done.stderr
    found, expected = held(str(tmp_path / "there.db")), held(str(source))
    assert {run: found[run] for run in found if run != "costs"} == {
        run: expected[run] for run in wanted[:3]
    }
    # A later line that is damaged, too, does not hide it, nor take the runs between along.
    behind = [*lines[:-1], b"[1]"]
    done = ran(tmp_path, "import", "-", "behind.db", stdin=b"\n".join(behind))
    assert f"line {number}: run 'failed'".encode() in done.stderr, done.stderr
    assert held(str(tmp_path / "behind.db")) == found
    done = ran(tmp_path, "import", "-", "x.db", "--dry-run", stdin=b"\n".join(lines))
    assert (done.returncode, (tmp_path / "x.db").exists()) == (4, False)


def test_a_run_that_is_missing(source: Path, tmp_path: Path) -> None:
    lines = ran(tmp_path, "export", "-s", str(source), "odd tuple", "failed").stdout.splitlines()
    start = lines.index(next(line for line in lines if line.startswith(b'{"run":"failed"')))
    text = b"\n".join([*lines[:start], lines[-1]])
    done = ran(tmp_path, "import", "-", "there.db", stdin=text)
    told = f"line {start + 1}: 1 complete runs are here, and there were 2"
    assert (done.returncode, told.encode() in done.stderr) == (4, True), done.stderr
    assert sorted(held(str(tmp_path / "there.db"))) == ["costs", "odd tuple"]
    text = b"\n".join([*lines[:start], b'{"runs": 1}'])
    assert ran(tmp_path, "import", "-", "there.db", stdin=text).returncode == 0
    text = b"\n".join([*lines[:start], b'{"runs": true}'])
    assert ran(tmp_path, "import", "-", "there.db", stdin=text).returncode == 4


def test_an_export_replaces_no_store(source: Path, tmp_path: Path) -> None:
    """Neither the one it reads, nor another, nor what belongs to one."""
    path = tmp_path / "agent.db"
    path.write_bytes(source.read_bytes())
    (tmp_path / "other.db").write_bytes(source.read_bytes())
    (tmp_path / "link").symlink_to("other.db")
    (tmp_path / "gone.db-livingai").mkdir()
    for name in ("left-wal", "journal.db-journal"):
        (tmp_path / name).write_bytes(b"a log")
    before = {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    for name in (
        "agent.db", "other.db", "link", "gone.db", "left", "journal.db", "agent.db-wal",
        "other.db-journal",
    ):  # fmt: skip
        done = ran(tmp_path, "export", "-s", "agent.db", "-o", name)
        assert (done.returncode, done.stdout) == (2, b""), (name, done.stderr)
        assert b"choose another name" in done.stderr or b"database itself" in done.stderr
    after = {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    assert after == before
    for _ in range(2):
        done = ran(tmp_path, "export", "-s", "agent.db", "-o", "out.jsonl")
        assert done.returncode == 0, "an export is replaced"
