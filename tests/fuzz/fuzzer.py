"""The process that fuzzes one reader: ``python -m tests.fuzz.fuzzer NAME [libFuzzer's options]``.

Half of all changed inputs have their checksums put right, or nothing behind a checksum would ever
be reached.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris


def main() -> None:
    """Fuzz until the options say so, or until something is found. Does not return.

    The name may be that of another :class:`~tests.support.readers.Reader`: ``module:name``.
    """
    name, options = sys.argv[1], sys.argv[2:]
    module = name.partition(":")[0] if ":" in name else "tests.support.readers"
    include = ["livingai", "msgpack", "tests.fuzz.faulty"]
    with atheris.instrument_imports(include=include):  # type: ignore[attr-defined]
        readers = importlib.import_module("tests.support.readers")
        named = importlib.import_module(module)
    reader = getattr(named, name.partition(":")[2]) if ":" in name else readers.READERS[name]
    corpus = Path(options[-1])
    if corpus.is_dir():
        seeds = [reader.valid, *(path.read_bytes() for path in readers.corpus_of(name))]
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        changed = atheris.Mutate(data, longest)
        return bytes(reader.summed(changed)) if seed % 2 else bytes(changed)

    atheris.Setup(
        [sys.argv[0], *options], lambda data: readers.check(reader, data), custom_mutator=mutate
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
