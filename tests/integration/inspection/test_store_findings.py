"""`livingai check --store`: a store with its state directory, as processes left them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.inspection.report import Code
from livingai.queue.layout import OUTCOME_OFFSET, offset_of, segment_of
from livingai.queue.segment import segment_name
from tests.support.journals import overwrite, records
from tests.support.place import Place
from tests.support.processes import TAG
from tests.support.store_damage import CASES, STEPS, Case, Stored


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Nobody changes it."""
    place = Place(tmp_path_factory.mktemp("stored"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(TAG, place.tag)
        yield Stored.make(place)
        with place.service():  # it removes the journal
            place.ask("drain")
        place.finish()


@pytest.fixture
def stored(original: Stored, tmp_path: Path) -> Stored:
    return original.copy(tmp_path / "stored")


def test_nothing_is_found_where_all_is_well(stored: Stored) -> None:
    report = stored.check()
    assert report.findings == []
    statuses = stored.sql("SELECT count(*) FROM executions")
    assert statuses == [(3,)], "one was deleted"
    assert report.counts["executions"] == 3
    assert report.counts["nodes"] >= 2 * STEPS + 1
    assert report.counts["compared"] == report.counts["records"] == 2 * STEPS + 31
    assert report.counts["states"] == stored.sql("SELECT count(*) FROM checkpoints")[0][0]


@pytest.mark.damaged("record-passed")
def test_what_the_cursor_has_passed_is_in_the_store(stored: Stored) -> None:
    """Also where the outcome itself is gone: the service looks at it no more."""
    (journal,) = stored.directory.journal_paths()
    second = next(found for found in records(journal) if found.header.lsn == 2)
    segment = Path(journal, segment_name(segment_of(second.position)))
    overwrite(segment, offset_of(second.position) + OUTCOME_OFFSET, bytes(8))
    assert [finding.code for finding in stored.check().findings] == [Code.RECORD_PASSED]
    stored.sql("DELETE FROM nodes WHERE execution_id = 'run-2' AND seq = 1")
    stored.sql("UPDATE executions SET nodes = nodes - 1 WHERE execution_id = 'run-2'")
    passed, missing = stored.check().findings
    assert (passed.code, missing.code) == (Code.RECORD_PASSED, Code.NOT_STORED)
    assert missing.what.startswith("record 2 of execution run-2")


def test_removed_nodes_are_not_missed(stored: Stored) -> None:
    """What was lost behind them is."""
    found = stored.sql("SELECT node_id FROM nodes WHERE execution_id = 'run-2' ORDER BY seq")
    steps = [node_id for (node_id,) in found]
    with stored.store() as store:
        assert store.drop_nodes("run-2", steps[1:3]).nodes == 2
    assert stored.check().findings == []
    stored.sql("DELETE FROM nodes WHERE node_id = ?", steps[3])
    stored.sql("UPDATE executions SET nodes = nodes - 1 WHERE execution_id = 'run-2'")
    (missing,) = stored.check().findings
    assert missing.code is Code.NOT_STORED
    assert f"node {steps[3]}," in missing.what


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_found(stored: Stored, case: Case) -> None:
    case.act(stored)
    findings = stored.check().findings
    assert {finding.code for finding in findings} == {case.code}, findings
    assert any(case.what in finding.what for finding in findings), findings
    place = f"journals/{Path(stored.directory.journal_paths()[0]).name}"
    where = place if case.code is Code.NOT_STORED else stored.store().url
    assert {finding.where for finding in findings} == {where}
