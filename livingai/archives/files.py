"""The files of exports and backups: whole or not there, and compressed by their name.

A new file is written beside its place under another name, synced, and renamed. What is there of
that name is replaced then, not before.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import secrets
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, Final, cast

import zstandard

#: What reading a damaged or compressed file may raise.
UNREADABLE: Final = (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_LEVEL: Final = 3
#: States that resemble each other are found over so many bytes (a power of two).
_WINDOW_LOG: Final = 24
#: A new file is its user's only: states may hold anything.
_MODE: Final = 0o600


@contextmanager
def new_path(path: str) -> Iterator[str]:
    """A path beside ``path``, whose file takes its place at the end; removed on an error."""
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, "there is no such folder", folder)
    beside = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))
        yield beside
        _sync(beside)
        os.replace(beside, path)
        _sync(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise


@contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """A new file to be written; compressed if its name ends with ``.gz`` or ``.zst``. What is no
    regular file (a pipe, ``/dev/stdout``) is written as it is."""
    with ExitStack() as stack:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            target = path
        else:
            target = stack.enter_context(new_path(path))
        file: Any = stack.enter_context(open(target, "wb"))
        if path.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        elif path.endswith(".zst"):
            settings = zstandard.ZstdCompressionParameters.from_level(
                _LEVEL, window_log=_WINDOW_LOG, enable_ldm=True, write_checksum=True
            )
            compressor = zstandard.ZstdCompressor(compression_params=settings)
            file = stack.enter_context(compressor.stream_writer(file, closefd=False))
        yield cast("IO[bytes]", file)


@contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
    """A file to be read, uncompressed if it is; ``-`` is standard input.

    Raises:
        OSError: it cannot be opened.
    """
    with ExitStack() as stack:
        file: Any = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        magic = file.peek(len(_ZSTD_MAGIC))
        if magic.startswith(_GZIP_MAGIC):
            yield cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=file)))
        elif magic.startswith(_ZSTD_MAGIC):
            reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                file, read_across_frames=True, closefd=False
            )
            yield cast("IO[bytes]", io.BufferedReader(cast("Any", reader), 1 << 20))
        else:
            yield cast("IO[bytes]", file)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
