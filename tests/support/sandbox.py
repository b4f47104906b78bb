"""Small disks and other users, for processes of the tests."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

_NOBODY = 65534


@cache
def _unshare() -> tuple[str, ...]:
    """The begin of a command line that runs in mount namespace of its own; () if impossible."""
    for command in (("unshare", "-Urm"), ("unshare", "-m")):
        test = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        try:
            if subprocess.run(test, capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return ()


def small_disk(at: Path, size: str, options: str = "") -> tuple[str, ...]:
    """The begin of a command line whose process, and all that it starts, sees a disk of ``size``
    (such as ``4m``) at ``at``. Skips the test where the system does not let us."""
    if not _unshare():
        pytest.skip("no mount namespaces here (unshare -Urm)")
    at.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o size={size}{options} tmpfs "$0" && exec "$@"'
    return (*_unshare(), "sh", "-c", mount, str(at))
