"""What a service manager hears of a dispatcher: a real socket, and answers that are given here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from livingai.errors import ServiceUnavailableError
from livingai.protocol.status import ServiceFlow, ServiceStatus
from livingai.service.notify import ManagerSocket
from livingai.service.progress import ProgressReports, described
from tests.support.manager import Manager


@contextmanager
def reporting(folder: Path, *answers: ServiceStatus | None) -> Iterator[Manager]:
    """A manager that hears of these answers, one after the other and then the last one again;
    None: there is none."""
    left = list(answers)

    def ask(_timeout_s: float) -> ServiceStatus:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer is None:
            raise ServiceUnavailableError("it is silent")
        return answer

    with closing(Manager(str(folder / "notify"))) as manager:
        reports = ProgressReports(ManagerSocket(manager.address, watchdog_s=0.4), ask)
        reports.ready()
        try:
            assert "READY" in manager.hear()
            yield manager
        finally:
            reports.close()


def test_a_dispatcher_that_answers_and_takes_no_turns_hangs(tmp_path: Path) -> None:
    """The first answer is news; the same number of turns again is not."""
    with reporting(tmp_path, ServiceStatus(turns=5)) as manager:
        assert manager.hear()["WATCHDOG"] == "1"
        for _ in range(3):
            assert "WATCHDOG" not in manager.hear()


def test_one_that_goes_on_is_alive_again(tmp_path: Path) -> None:
    answers = (ServiceStatus(turns=5), None, ServiceStatus(turns=5), ServiceStatus(turns=6))
    with reporting(tmp_path, *answers) as manager:
        heard = [manager.hear() for _ in range(5)]
    assert ["WATCHDOG" in each for each in heard] == [True, False, False, True, False]
    assert heard[1]["STATUS"] == "the dispatcher does not answer: it is silent"


def test_a_restarted_dispatcher_counts_from_the_start(tmp_path: Path) -> None:
    with reporting(tmp_path, ServiceStatus(turns=500), ServiceStatus(turns=2)) as manager:
        assert "WATCHDOG" in manager.hear()
        assert "WATCHDOG" in manager.hear()


def test_a_store_that_is_away_is_no_hang(tmp_path: Path) -> None:
    answers = (ServiceStatus(turns=1, trouble="away"), ServiceStatus(turns=2, trouble="away"))
    with reporting(tmp_path, *answers) as manager:
        for _ in range(2):
            heard = manager.hear()
            assert heard["WATCHDOG"] == "1"
            assert heard["STATUS"].endswith("trouble: away")


@pytest.mark.parametrize(
    "hostile", ["a\nMAINPID=1", "a\rREADY=1\n", "\0", "\x1b[2J", "\ud800", "x" * 100_000]
)
def test_no_text_is_another_line(tmp_path: Path, hostile: str) -> None:
    with closing(Manager(str(tmp_path / "notify"))) as manager:
        assert ManagerSocket(manager.address).send(STATUS=hostile, WATCHDOG=1)
        heard = manager.hear()
    assert heard.keys() == {"STATUS", "WATCHDOG"}
    assert heard["STATUS"].isprintable()
    assert len(heard["STATUS"]) <= 500


@pytest.mark.parametrize("address", ["", "@", "/", "vsock:2:1", "relative"])
def test_what_is_no_socket_of_ours(address: str, tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    found = ManagerSocket.from_environment(environment)
    assert not environment
    assert found is None


@pytest.mark.parametrize(("usec", "wanted"), [("3000000", 3.0), ("", 0.0), ("-1", 0.0), ("x", 0.0)])
def test_the_time_of_the_watchdog(usec: str, wanted: float) -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": usec}
    found = ManagerSocket.from_environment(environment)
    assert found is not None
    assert found.watchdog_s == wanted


def test_a_service_in_a_line() -> None:
    assert described(ServiceStatus(agents=2)) == "serving 2 agents; all stored"
    late = ServiceStatus(inflight=3, flow=ServiceFlow(oldest_s=1.26))
    assert described(late, draining=True) == (
        "draining 0 agents; 3 records on their way, the oldest for 1.3 s"
    )
