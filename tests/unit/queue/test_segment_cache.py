"""What compressors and writers keep mapped of journals."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from livingai.queue.directory import remove_journal
from livingai.queue.journal import JournalLimits
from livingai.queue.segment_cache import SegmentCache
from tests.support.journals import Writer, state_directory


def mapped(folder: Path) -> int:
    """Segments below a folder that this process has mapped, deleted ones too."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(str(folder) in line and ".seg" in line for line in lines)


def test_removed_journals_are_unmapped(tmp_path: Path) -> None:
    directory = state_directory(tmp_path / "state")
    limits = JournalLimits(segment_bytes=64 << 10, journal_bytes=1 << 20, cache_bytes=1 << 20)
    with closing(SegmentCache()) as cache:
        for _ in range(5):
            writer = Writer(directory, limits)
            for number in range(12):
                at = writer.save("run-1", bytes(30_000 + number))
                cache.view(writer.journal.directory, at.position)
            here = len(list(Path(writer.journal.directory).glob("*.seg")))
            assert mapped(tmp_path) == here, "only those of the one journal that is there"
            path = writer.journal.directory
            writer.close()
            remove_journal(path)
    assert mapped(tmp_path) == 0
