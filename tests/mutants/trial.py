"""Trying a mutant: a copy of the tree, the fault in it, and the tests that should notice it."""

from __future__ import annotations

import enum
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.table import ROOT, Mutant
from tests.support.journals import SCRATCH, scratch_folder
from tests.support.processes import end_all

#: In the environment of all processes of a trial, so that none outlives it.
_TAG = "LIVINGAI_MUTANT_TREE"
_FAILED = re.compile(r"^(FAILED|ERROR) (\S+)", re.MULTILINE)


class Verdict(enum.Enum):
    """What became of a mutant."""

    NOTICED = "noticed"
    SURVIVED = "survived"
    #: The tests could not be run: the table is wrong, or the machine is.
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a run of some tests."""

    verdict: Verdict
    seconds: float
    #: The test that failed, or what else there is to say.
    by: str
    output: str


class Tree:
    """A copy of the repository's files as they are now, in which one mutant at a time lives."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self._seed = seed
        self._stamp = int(time.time()) - 10_000_000
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            source, target = ROOT / name, path / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)

    def try_(self, mutant: Mutant, longest_s: float) -> Trial:
        """Run the mutant's tests on it. The tree is as it was afterwards."""
        path = self.path / mutant.file
        healthy = path.read_text()
        self._write(path, mutant.applied(healthy))
        try:
            return self.run(mutant.tests, longest_s)
        finally:
            self._write(path, healthy)

    def _write(self, path: Path, text: str) -> None:
        """Compiled modules are known by size and second of their source: each has its own."""
        path.write_text(text)
        self._stamp += 1
        os.utime(path, (self._stamp, self._stamp))

    def run(self, tests: tuple[str, ...], longest_s: float) -> Trial:
        """Run tests until the first failure; one that takes longer than ``longest_s`` has hung,
        which is noticed, too."""
        scratch, memory = self.path / ".trial", scratch_folder()
        environment = {
            **os.environ, "PYTHONPATH": str(self.path), _TAG: str(self.path),
            "LIVINGAI_PROFILE": "mutants", "LIVINGAI_SEED": str(self._seed), "TMPDIR": str(scratch),
            SCRATCH: str(memory),
        }  # fmt: skip
        scratch.mkdir()
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider",
            f"--hypothesis-seed={self._seed}", *tests,
        ]  # fmt: skip
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=self.path, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=longest_s)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            end_all(str(self.path), _TAG)
            output, _ = process.communicate()
            code = None
        finally:
            end_all(str(self.path), _TAG)  # a faulty program may leave processes behind
            for folder in (scratch, memory):
                shutil.rmtree(folder, ignore_errors=True)
        verdict, by = _judged(code, output, longest_s)
        return Trial(verdict, time.monotonic() - began, by, output)


def _judged(code: int | None, output: str, longest_s: float) -> tuple[Verdict, str]:
    if code is None:
        return Verdict.NOTICED, f"no end within {longest_s:.0f} s"
    if code == 0:
        return Verdict.SURVIVED, "all tests passed"
    # What failed itself comes first; fixtures alone may say more of the machine than of the fault.
    failed = sorted(_FAILED.findall(output), key=lambda found: found[0] == "ERROR")
    if code == 1 and failed:
        (how, test), *_ = failed
        return Verdict.NOTICED, test + (" (an error in its fixtures)" if how == "ERROR" else "")
    if code < 0:
        return Verdict.NOTICED, f"the tests' process died of {signal.Signals(-code).name}"
    return Verdict.BROKEN, f"pytest ended with {code}"
