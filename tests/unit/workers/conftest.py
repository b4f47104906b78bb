"""Two processes of one state directory, and the service's view of their journals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.queue.journal import JournalLimits
from livingai.workers.dispatcher.intake import Intake
from tests.support.journals import Writer, state_directory


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[list[Writer]]:
    """Two processes of one state directory."""
    directory = state_directory(tmp_path)
    with (
        closing(Writer(directory, JournalLimits())) as one,
        closing(Writer(directory, JournalLimits())) as other,
    ):
        yield [one, other]


@pytest.fixture
def merged(owners: list[Writer], tmp_path: Path) -> Iterator[Intake]:
    """Their journals; there are no pauses between attempts to open them."""
    with (
        mock.patch("livingai.workers.dispatcher.unreadable._RETRY_S", 0.0),
        closing(Intake(state_directory(tmp_path))) as found,
    ):
        yield found
