"""What all tests share."""

import gc
import os
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest
from hypothesis import Phase, settings

# Before the modules there are imported: an assertion that fails in one of them shows its values.
pytest.register_assert_rewrite("tests.support")
pytest_plugins = ["tests.support.postgres_servers"]

from tests.support.patience import Deadline  # noqa: E402

# A failure prints a blob for @reproduce_failure; --hypothesis-seed (make test SEED=...) repeats a
# whole run. So "ci" stays random: each run looks at new examples, and none is lost.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=False, database=None)
# That a deliberate fault is noticed is all that counts then (tests/mutants).
settings.register_profile(
    "mutants", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(
    os.environ.get("LIVINGAI_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

# A shell ignores SIGINT in what it runs in the background, nohup ignores SIGHUP, and children
# inherit that; tests that press Ctrl-C in a child need what a terminal would give it.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay in memory until the end; if they were not frozen, each
    ``gc.collect()`` of a test would look through all of them, which takes about 0.05 s."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
    """The limit of a test is a deadline as all others: when its time is up, it is stretched by how
    busy the machine was. (Where no signal can be used, the limit stays as it is.)"""
    deadline = Deadline(settings.timeout)
    done = yield
    if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
        return done
    fail = signal.getsignal(signal.SIGALRM)
    assert callable(fail)

    def time_is_up(number: int, frame: FrameType | None) -> None:
        if left := deadline.left():
            signal.setitimer(signal.ITIMER_REAL, left)
        else:
            fail(number, frame)

    signal.signal(signal.SIGALRM, time_is_up)
    return done
