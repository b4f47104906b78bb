"""The file for node_exporter's textfile collector: whole or not at all, readable for its user."""

from __future__ import annotations

import contextlib
import os
import tempfile


def write_textfile(path: str, text: bytes) -> None:
    """Replace ``path`` by a file with this text. It has mode 0644, because node_exporter is another
    user; a name that does not end in .prom, which it reads, is used until the text is whole.

    Raises:
        OSError: the file cannot be written; the one before is still there.
    """
    folder, name = os.path.split(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
            os.fchmod(fd, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
