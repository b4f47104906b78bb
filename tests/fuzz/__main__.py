"""``make fuzz``: each reader for some seconds, some of them at a time; 1 if bytes were found that
one must not take as it does."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

#: What is found, and the inputs that reach new code, by reader.
KEPT = Path(".fuzz")
#: Longest that a reader may take for one input, in seconds, on a machine that is busy.
_LONGEST_S = 60
#: Longest that a process may take to start and to end besides its time, in seconds.
_GRACE_S = 600


def main() -> int:
    """0: nothing was found; 1: something was, or a fuzzer did not run; 2: there is no such
    reader."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("only", nargs="*", help="readers; all if none is given")
    parser.add_argument("--seconds", type=int, default=20, help="for each reader (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: new)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="readers at a time")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of what is kept")
    parser.add_argument("--repeat", type=Path, help="have the one reader read this file")
    arguments = parser.parse_args()
    from tests.support.readers import READERS

    names = arguments.only or list(READERS)
    unknown = sorted({name for name in names if ":" not in name} - set(READERS))
    if unknown:
        print(f"there is no reader {', '.join(unknown)}; there are {', '.join(READERS)}")
        return 2
    seed = arguments.seed or secrets.randbits(31) or 1
    print(f"seed: {seed}", flush=True)

    def fuzz(name: str) -> bool:
        options = [f"-max_total_time={arguments.seconds}", f"-seed={seed}"]
        if arguments.repeat:
            options = [str(arguments.repeat)]
        return _fuzz(name, arguments.kept / name, options, arguments.seconds + _GRACE_S)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        sound = list(pool.map(fuzz, names))
    return 0 if all(sound) else 1


def _fuzz(name: str, kept: Path, options: list[str], longest_s: float) -> bool:
    """Fuzz a reader in a process of its own, which a crash ends; whether nothing was found."""
    corpus, found = kept / "corpus", kept / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    folders = [] if options[0][0] != "-" else [str(corpus)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzzer", name, f"-artifact_prefix={found}/",
         f"-timeout={_LONGEST_S}", "-rss_limit_mb=2048", *options, *folders],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False, timeout=longest_s,
    )  # fmt: skip
    counts = re.findall(r"#(\d+)\s.*?cov: (\d+)", done.stdout)
    runs, reached = counts[-1] if counts else ("0", "0")
    if done.returncode == 0:
        print(f"{name}: {runs} inputs reached {reached} places, nothing found", flush=True)
        return True
    print(f"{name}: after {runs} inputs\n{done.stdout[-6000:]}", flush=True)
    artifact = re.search(r"Test unit written to (\S+)", done.stdout)
    if artifact:
        print(f"repeat it with: python -m tests.fuzz {name} --repeat {artifact[1]}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
