"""`livingai check --store` on every store: nothing is found where all is well; what is lost is."""

from __future__ import annotations

from livingai.inspection.check import check_directory
from livingai.inspection.findings import Code
from livingai.inspection.report import Report
from livingai.stores.opening import open_store
from tests.support import acts
from tests.support.place import Place

STEPS = 6


def test_a_store_and_what_it_has_lost(url: str, state_dir: Place) -> None:
    directory = str(state_dir.folder / "here")
    agent = state_dir.agent(database=url, directory=directory)
    other = state_dir.agent(database=url, directory=directory)
    for step in range(STEPS):
        agent.call(acts.save, "run-1", step)
        agent.call(acts.save, "run-2", step, history=False)
        agent.call(acts.save, "run-3", step, size=None)
    agent.call(acts.drain)
    other.call(acts.save, "run-2", STEPS)
    other.call(acts.save, "gone", 0)
    other.call(acts.drain)
    assert other.call(acts.delete, "gone") == 1

    def check() -> Report:
        return check_directory(directory, open_store(url))

    report = check()
    assert report.findings == []
    assert report.counts["executions"] == 3
    assert report.counts["compared"] == 3 * STEPS + 2
    with open_store(url) as store:
        versions = [(found.epoch, found.seq) for found in store.checkpoints("run-1")]
        hashes = {found.content_hash: (found.epoch, found.seq) for found in
                  store.checkpoints("run-1", blobs=False)}  # fmt: skip
        bases = {hashes[found.base_hash] for found in store.checkpoints("run-1", blobs=False)
                 if found.base_hash is not None}  # fmt: skip
        assert bases, "no delta was stored"
        store.drop_checkpoints("run-1", [min(bases)])
    assert {finding.code for finding in check().findings} == {Code.STATE_BASE}
    with open_store(url) as store:
        store.drop_checkpoints("run-1", [v for v in versions if v != versions[0]])
    found = [finding for finding in check().findings if finding.code is Code.NOT_STORED]
    assert len(found) == 1
    assert "execution run-1" in found[0].what
    agent.leave()
    other.leave()
