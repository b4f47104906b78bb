"""What an exporter says while the service works, waits, hangs and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode, NodeType, Service, Status
from livingai.errors import ConfigurationError, JournalFullError
from livingai.inspection.directories import directory_view
from livingai.inspection.doubts import count_doubts
from livingai.inspection.figures import look_at
from tests.integration.service.test_serving import locked
from tests.support import acts
from tests.support.agents import environment
from tests.support.logs import own_text
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.ports import free_port
from tests.support.scraping import Scrape, address_of, get, scrape, scrape_until
from tests.support.waiting import frozen, gone, is_running, kill, until

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def service(place: Place, **settings: Any) -> Service:
    return Service(place.store(), place.directory.path, **{"metrics": "127.0.0.1:0", **settings})


def is_down(page: Scrape) -> bool:
    """Whether the store takes nothing."""
    return not page['livingai_store_up{store="sqlite"}']


def fill(engine: CheckpointEngine) -> None:
    """Save until the journal is full, which raises an error, and for a while longer."""
    for _ in range(200):
        engine.save_sync(ExecutionNode("run-1"), os.urandom(5000))


def status(place: Place, page: str) -> tuple[int, str]:
    answer = get(address_of(place), page)
    return answer.status, answer.text


def test_all_is_well(state_dir: Place) -> None:
    with service(state_dir), state_dir.engine() as engine:
        for step in range(20):
            engine.save_sync(ExecutionNode("run-1"), {"step": step, "text": "x" * 5000})
        engine.flush_sync()
        address = address_of(state_dir)
        assert status(state_dir, "/livez") == (200, "service: ok\n")
        assert status(state_dir, "/readyz") == (200, "store: ok\nroom: ok\n")

        page = scrape_until(address, lambda found: found.saves().total() == 20, what="20 saves")
        assert page['livingai_store_up{store="sqlite"}'] == 1
        assert page["livingai_service_up"] == page["livingai_agents"] == 1
        assert page["livingai_journals"] == 1
        assert page["livingai_commit_batch_records_sum"] == 20
        assert page["livingai_raw_bytes_total"] > 100_000
        assert 0 < page["livingai_stored_bytes_total"] < page["livingai_raw_bytes_total"] / 2
        assert "run-1" not in get(address, "/metrics").text
        open_metrics = get(
            address, "/metrics", Accept="application/openmetrics-text; version=1.0.0"
        )
        assert open_metrics.content_type.startswith("application/openmetrics-text")
        assert open_metrics.text.endswith("# EOF\n")


def test_a_store_that_takes_nothing(state_dir: Place) -> None:
    with service(state_dir), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"warm").result(patience(30))
        address = address_of(state_dir)
        with locked(state_dir):
            receipt = engine.save_sync(ExecutionNode("run-1"), b"waits")
            receipt.done()  # somebody waits for it

            page = scrape_until(address, is_down, what="a store that is down", timeout=60)
            assert page["livingai_queue_records"] == 1
            assert page["livingai_queue_oldest_age_seconds"] > 0
            assert page['livingai_store_lag_seconds{store="sqlite"}'] > 0
            ready, text = status(state_dir, "/readyz")
            assert ready == 503
            assert text.startswith("store: ")
            assert "room: ok\n" in text
            assert status(state_dir, "/livez")[0] == 200, "the service turns"
        receipt.result(patience(60))
        until(lambda: status(state_dir, "/readyz")[0] == 200, what="ready again", timeout=60)
        assert scrape(address)['livingai_commit_failures_total{store="sqlite"}'] >= 1


def test_a_service_that_hangs_is_said_to_be_down(state_dir: Place) -> None:
    with service(state_dir), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(30))
        address = address_of(state_dir)
        with frozen([state_dir.pids()["dispatcher"]]):
            for _ in range(3):
                engine.save_sync(ExecutionNode("run-1"), b"more")

            page = scrape_until(
                address, lambda found: not found["livingai_service_up"], what="a service that hangs"
            )
            assert page["livingai_queue_records"] >= 3, "what waits is seen all the same"
            assert not any(series.startswith("livingai_store_up") for series in page.samples)
        until(lambda: scrape(address)["livingai_service_up"], what="up again")


def test_connections_to_the_exporter_hold_up_no_save(state_dir: Place) -> None:
    with service(state_dir), state_dir.engine() as engine:
        address = address_of(state_dir)
        host, port = address.split(":")
        with ExitStack() as stack:
            for number in range(1000):
                sock = stack.enter_context(
                    socket.create_connection((host, int(port)), patience(20))
                )
                if number % 2:
                    sock.sendall(b"GET /metrics HTTP/1.1\r\nA: ")
            for step in range(50):
                engine.save_sync(ExecutionNode("run-1"), step)
            engine.flush_sync(timeout=patience(30))
            assert get(address, "/livez").status == 200
            stack.pop_all().close()
        assert scrape(address)["livingai_service_up"] == 1


def test_the_time_in_front_of_a_full_journal_is_counted(state_dir: Place) -> None:
    small = {"segment_bytes": 1 << 16, "journal_bytes": 1 << 18, "cache_bytes": 0,
             "patch_from_bytes": 0, "on_full_timeout_s": 0.3}  # fmt: skip
    with service(state_dir), state_dir.engine(**small) as engine:
        engine.save_sync(ExecutionNode("run-1"), b"warm").result(patience(30))
        address = address_of(state_dir)
        assert scrape(address)["livingai_backpressure_seconds_total"] == 0
        with frozen(state_dir.pids()["writers"]):
            with pytest.raises(JournalFullError):
                fill(engine)
            waited_s = engine.metrics.backpressure_s
            assert waited_s >= 0.2
            live = until(lambda: scrape(address)["livingai_backpressure_seconds_total"], what="it")
            assert live == pytest.approx(waited_s, abs=0.01)
        engine.flush_sync(timeout=patience(60))
        until(lambda: not look_at(state_dir.directory).waited_us, what="it is in the tally")
        assert look_at(state_dir.directory).backpressure_s == pytest.approx(waited_s, abs=0.01)


def test_the_file_is_whole_and_says_at_the_end_that_the_service_is_down(
    state_dir: Place, tmp_path: Path
) -> None:
    path = tmp_path / "livingai.prom"
    with service(state_dir, metrics=None, metrics_file=str(path)):
        until(path.exists, what="the file")
        found = Scrape(path.read_text())
        assert found["livingai_service_up"] == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert Scrape(path.read_text())["livingai_service_up"] == 0
    assert [each.name for each in tmp_path.iterdir() if "prom" in each.name] == [path.name]


def test_a_port_that_is_taken_is_waited_for(state_dir: Place) -> None:
    port = free_port()
    with (
        closing(socket.create_server(("127.0.0.1", port))) as other,
        service(state_dir, metrics=f"127.0.0.1:{port}"),
        state_dir.engine() as engine,
    ):
        engine.save_sync(ExecutionNode("run-1"), b"x").result(patience(30))
        log = Path(state_dir.directory.log)
        until(lambda: "metrics cannot be served" in log.read_text(), what="word of it")
        other.close()
        assert get(address_of(state_dir), "/livez").status == 200


def test_an_exporter_ends_with_its_supervisor(state_dir: Place) -> None:
    state_dir.service_killed = True
    with service(state_dir) as served:
        address_of(state_dir)
        path = os.path.join(state_dir.directory.path, "service.metrics")
        exporter = json.loads(Path(path).read_text())["pid"]
        assert is_running(exporter)
        kill(served.status().pids.supervisor)
        gone(exporter)


def test_the_service_of_an_engine_has_metrics_too(state_dir: Place) -> None:
    with state_dir.engine(metrics="127.0.0.1:0", idle_s=5.0) as engine:
        engine.save_sync(ExecutionNode("run-1"), b"x").result(patience(30))
        assert get(address_of(state_dir), "/readyz").status == 200


def test_doubts_are_of_dead_processes_only(state_dir: Place) -> None:
    view = directory_view(state_dir.directory.path, state_dir.store().url)
    begun = {"type": str(NodeType.TOOL), "status": str(Status.RUNNING)}
    with service(state_dir):
        agent = state_dir.agent()
        agent.call(acts.save, "run-1", 0, size=None, node=begun)
        agent.settled(1)
        assert count_doubts(view) == 0, "its process lives, and makes the call now"
        agent.kill()
        until(lambda: count_doubts(view) == 1, what="one in doubt")
        agent = state_dir.agent()
        agent.call(acts.claim, "run-1")
        agent.call(acts.save, "run-1", 1)
        assert count_doubts(view) == 0, "another process has taken it over"
        agent.call(acts.close)
        agent.end()


def test_json_logs_are_an_object_a_line(state_dir: Place) -> None:
    with service(state_dir, log_format="json"), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"x").result(patience(30))
        address_of(state_dir)
        kill(state_dir.pids()["dispatcher"])
        state_dir.pids()
    text = own_text(Path(state_dir.directory.log).read_text())
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["process"] for line in lines} >= {"supervisor", "exporter"}
    assert any(line["message"].startswith("the dispatcher ended") for line in lines)
    for line in lines:
        assert set(line) >= {"time", "level", "process", "pid", "message"}


@pytest.mark.parametrize("address", ["9464", "localhost", "localhost:99999", "::1:9464", "a:b", 5])
def test_an_address_that_is_none(state_dir: Place, address: Any) -> None:
    with pytest.raises(ConfigurationError, match="metrics"):
        CheckpointEngine(state_dir.store(), metrics=address)


def test_the_command(state_dir: Place) -> None:
    command = [sys.executable, "-m", "livingai.cli", "serve", "agent.db"]
    options = ["--metrics", "127.0.0.1:0", "--metrics-file", "livingai.prom"]
    with subprocess.Popen(
        [*command, *options, "--log-format", "json"], env=environment(), cwd=state_dir.folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving sqlite:///")
            assert scrape(address_of(state_dir))["livingai_service_up"] == 1
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=patience(60))
        finally:
            process.kill()
    assert process.returncode == 0
    assert all(json.loads(line)["message"] for line in own_text(log).splitlines())
    assert Scrape((state_dir.folder / "livingai.prom").read_text())["livingai_service_up"] == 0


@pytest.mark.parametrize("options", [["--metrics", "nowhere"], ["--metrics-file", "a.txt"]])
def test_the_command_with_an_option_that_makes_no_sense(
    state_dir: Place, options: list[str]
) -> None:
    command = [sys.executable, "-m", "livingai.cli", "serve", "agent.db", *options]
    done = subprocess.run(
        command, env=environment(), cwd=state_dir.folder, capture_output=True, text=True,
        timeout=patience(60), check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ConfigurationError: metrics")
    assert len(done.stderr.splitlines()) == 1
