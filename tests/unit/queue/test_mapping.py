"""A mapped file that becomes too short: each case in a process of its own, which may die of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agents import environment
from tests.support.patience import patience

BEGIN = """
import faulthandler, mmap, os, signal, sys, threading
import xxhash
from livingai.queue.mapping import CUTS, map_file
path, size = sys.argv[1], 64 * mmap.PAGESIZE
def made(name, byte):
    fd = os.open(path + name, os.O_RDWR | os.O_CREAT)
    os.write(fd, byte * size)
    return fd
fd = made("", b"x")
"""


def run(folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", BEGIN + program, str(folder / "file")]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=patience(60),
        env=environment(),
        check=False,
    )


CASES = {
    "what is missing is zeros, what is there stays": """
found = map_file(fd, size)
os.truncate(path, 10 * mmap.PAGESIZE)
assert found[:size] == b"x" * (10 * mmap.PAGESIZE) + bytes(54 * mmap.PAGESIZE)
assert CUTS.count == 1 and path in CUTS.take_message() and not CUTS.take_message()
""",
    "at an address that another mapping has left": """
from livingai.queue.bus_errors import address_of
other = made("-other", b"y")
kept, found = [], None
while found is None:  # a closed mapping's object lives on, and its address is given away
    before = map_file(other, size)
    at = address_of(before)
    before.close()
    kept.append(before)
    after = map_file(fd, size)
    found = after if address_of(after) == at else kept.append(after)
    assert len(kept) < 100, "no address is used again"
os.truncate(path, 0)
assert found[0] == 0 and CUTS.count == 1
""",
    "in a child that was forked while a thread replaced a page": """
from livingai.queue import bus_errors
found = map_file(fd, size)
os.truncate(path, 0)
bus_errors._replacing.acquire()
child = os.fork()
if not child:
    signal.alarm(30)  # it must not wait for ever
    os._exit(found[0])
assert os.waitpid(child, 0)[1] == 0
""",
    "a part of the last page": """
found = map_file(fd, size)
os.truncate(path, 100)
assert found[:size] == b"x" * 100 + bytes(size - 100) and CUTS.count == 1
""",
    "who only writes marks into it goes on with a page of its own": """
found = map_file(fd, size, write=True)
os.truncate(path, 0)
words = memoryview(found).cast("Q")
words[5] = 7
assert words[5] == 7 and words[6] == 0 and os.path.getsize(path) == 0
""",
    "again, once it is longer": """
found = map_file(fd, size)
os.truncate(path, 0)
assert found[0] == 0
os.truncate(path, size)
again = map_file(fd, size, write=True)
again[0] = 1
assert map_file(fd, size)[0] == 1 and found[0] == 0 and CUTS.count == 1
os.truncate(path, 0)
assert again[0] == 0 and CUTS.count == 2
""",
    "in the middle of what needs no interpreter": """
found = map_file(fd, size)
threads = [threading.Thread(target=lambda: sum(range(200_000))) for _ in range(4)]
for thread in threads:
    thread.start()
os.truncate(path, 8 * mmap.PAGESIZE)
digest = xxhash.xxh3_64_intdigest(memoryview(found))
assert digest == xxhash.xxh3_64_intdigest(b"x" * (8 * mmap.PAGESIZE) + bytes(56 * mmap.PAGESIZE))
for thread in threads:
    thread.join()
""",
    "in many threads at once": """
found = [map_file(made(str(n), b"y"), size) for n in range(8)]
for n in range(8):
    os.truncate(path + str(n), 0)
sums = []
threads = [threading.Thread(target=lambda m=m: sums.append(sum(m[:]))) for m in found * 2]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sums == [0] * 16 and CUTS.count >= 8
""",
    "again and again, in many threads": """
for n in range(60):
    found = map_file(made(f"a{n}", b"y"), size)
    barrier = threading.Barrier(4)
    def look():
        barrier.wait()
        assert sum(found[:]) == 0
    os.truncate(path + f"a{n}", 0)
    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert CUTS.count == 60
""",
    "in a child": """
found = map_file(fd, size)
os.truncate(path, 0)
pid = os.fork()
if not pid:
    signal.alarm(30)  # it must not wait for ever
    os._exit(found[0])
assert os.waitpid(pid, 0)[1] == 0
assert found[0] == 0
""",
    "its mapping is closed": """
found = map_file(fd, size)
os.truncate(path, 0)
assert found[0] == 0
found.close()
import pathlib
assert path not in pathlib.Path("/proc/self/maps").read_text()
""",
}


JOURNAL = """
from livingai.queue.control import Control
from livingai.queue.segments import Segments
from livingai.queue.tail import JournalTail
from tests.support.journals import Writer, state_directory
writer = Writer(state_directory(path + ".state"))
for n in range(3):
    writer.save("run", b"x" * 100)
folder = writer.journal.directory
def cut(name, meanwhile):
    with open(os.path.join(folder, name), "rb") as file:
        whole = file.read()
    os.truncate(os.path.join(folder, name), 0)
    meanwhile()
    with open(os.path.join(folder, name), "r+b") as file:
        file.write(whole)
"""
CASES |= {
    "a control page that is cut, and put back before its reader looks again": JOURNAL
    + """
control = Control(folder)
cut("control", lambda: control._words[9])
assert CUTS.count == 1
assert control.tail == writer.journal._control.tail and not control.damaged
""",
    "a control page that stays cut": JOURNAL
    + """
control = Control(folder)
os.truncate(os.path.join(folder, "control"), 0)
assert control.tail == 0 and control.damaged
""",
    "a segment that is cut, and put back": JOURNAL
    + """
segments = Segments(folder)
before = segments.get(1).view
cut("0000000001.seg", lambda: before[4000])
assert CUTS.count == 1 and bytes(before[:64]) == bytes(64)
assert bytes(segments.get(1).view[:8]) != bytes(8)
""",
    "an index that is cut, and put back: a mark goes where its owner sees it": JOURNAL
    + """
other = Writer(state_directory(path + ".state"))
other.save("other", b"y")
view = next(v for v in other.cache._views.refresh() if v.directory == folder)
cut("index", lambda: view.index._words[100])
assert CUTS.count == 1
other.cache.take_over("run", 0, other.journal.id)
assert writer.journal.index.taken(writer.places["run"].slot)
""",
    "an index that is put back after a mark was made: it is made again": JOURNAL
    + """
from livingai.queue.index import Index
other = Writer(state_directory(path + ".state"))
other.save("other", b"y")
file = os.path.join(folder, "index")
with open(file, "rb") as index:
    whole = index.read()
os.truncate(file, 0)
take = Index.take
def take_and_put_back(index, key):
    take(index, key)
    if not os.path.getsize(file):
        with open(file, "r+b") as written:
            written.write(whole)
Index.take = take_and_put_back
place = writer.places["run"]
other.cache.supersede(place.key, other.journal.id)
assert CUTS.count == 1 and writer.journal.index.taken(place.slot)
""",
}


@pytest.mark.parametrize("case", CASES)
def test_it_lives_on(tmp_path: Path, case: str) -> None:
    done = run(tmp_path, CASES[case])
    assert (done.returncode, done.stderr) == (0, "")


FOREIGN = """
ours = map_file(fd, size)
theirs = mmap.mmap(made("theirs", b"z"), size)
os.truncate(path + "theirs", 0)
"""


OWN = """
found = map_file(fd, size)
theirs = mmap.mmap(fd, size)
os.truncate(path, 0)
assert found[0] == 0
theirs[0]
"""
OWNER = """
map_file(made("other", b"x"), size)
found = map_file(fd, size, write=True, owner=True)
os.truncate(path, 0)
found[0] = 1
"""


@pytest.mark.parametrize("program", [OWN, OWNER], ids=["a mapping of the program's", "its owner"])
def test_who_ends(tmp_path: Path, program: str) -> None:
    """What is not mapped by us, though it is our file; and the owner, whom nobody would hear."""
    assert run(tmp_path, program).returncode == -signal.SIGBUS


@pytest.mark.parametrize("option", ["", "faulthandler"])
@pytest.mark.parametrize(
    "program",
    [FOREIGN + "theirs[0]", FOREIGN + "os.kill(os.getpid(), signal.SIGBUS); signal.pause()"],
    ids=["a file of the program's", "a signal that was sent"],
)
def test_what_is_not_ours_is_as_it_was(tmp_path: Path, program: str, option: str) -> None:
    done = run(tmp_path, program, *(["-X", option] if option else []))
    assert done.returncode == -signal.SIGBUS
    assert ("Fatal Python error: Bus error" in done.stderr) == bool(option)
