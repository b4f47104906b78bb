"""The conformance class of adapters passes an adapter that keeps its promises, and finds each
broken one."""

from __future__ import annotations

import pytest

from livingai.testing import AdapterConformance
from livingai.testing.adapters import started
from tests.support import adapter_harness
from tests.support.place import Place

HERE = adapter_harness.__name__


class TestPlainAdapter(AdapterConformance):
    """It keeps all promises."""

    harness = f"{HERE}:PlainHarness"

    @pytest.fixture(autouse=True)
    def leaves_nothing(self, state_dir: Place) -> None:
        """The place looks at what is left at the end."""


BROKEN = [
    ("ForgetfulHarness", "test_what_one_process_writes_another_reads_at_once", {}),
    ("ForgetfulHarness", "test_what_was_acknowledged_survives_a_kill", {"behind": 7}),
    ("MixingHarness", "test_threads_are_apart", {}),
    ("OwningHarness", "test_several_processes_write_at_once", {}),
    ("RepeatingHarness", "test_a_tool_is_called_at_most_once", {"death": "behind"}),
    ("SilentHarness", "test_a_run_is_recorded", {}),
    ("SilentHarness", "test_a_tool_is_called_at_most_once", {"death": "before"}),
]


@pytest.mark.parametrize(("harness", "test", "given"), BROKEN)
def test_a_broken_promise_is_noticed(
    state_dir: Place, harness: str, test: str, given: dict[str, object]
) -> None:
    tests = TestPlainAdapter()
    tests.harness = f"{HERE}:{harness}"
    with (
        started(tests.harness, *tests.store(state_dir.folder), state_dir.folder) as start,
        pytest.raises((AssertionError, pytest.fail.Exception)),
    ):
        getattr(tests, test)(start=start, tmp_path=state_dir.folder, **given)
