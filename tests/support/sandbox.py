"""Small disks, other boots and other hosts, for processes of the tests."""

from __future__ import annotations

import subprocess
import uuid
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


def other_boot(boot_id: Path) -> tuple[str, ...]:
    """The begin of a command line whose process, and all that it starts, lives in another boot of
    the machine; its id goes into the file ``boot_id``. Skips the test as :func:`small_disk`."""
    if not _unshare():
        pytest.skip("no mount namespaces here (unshare -Urm)")
    boot_id.write_text(f"{uuid.uuid4()}\n")
    mount = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return (*_unshare(), "sh", "-c", mount, str(boot_id))


def bound(folder: Path, at: Path) -> tuple[str, ...]:
    """As :func:`small_disk`, with ``folder`` mounted at ``at``, too."""
    if not _unshare():
        pytest.skip("no mount namespaces here (unshare -Urm)")
    at.mkdir(exist_ok=True)
    mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
    return (*_unshare(), "sh", "-c", mount, str(folder), str(at))


@cache
def _isolate() -> tuple[str, ...]:
    """The begin of a command line that runs in network and process namespaces of its own; () if
    impossible."""
    for user in ("-Urnpf", "-npf"):
        command = ("unshare", user, "--mount-proc", "--kill-child")
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return ()


def other_host(boot_id: Path) -> tuple[str, ...]:
    """The begin of a command line whose process, and all that it starts, lives on another host: it
    has no network but its own loopback, the process ids begin anew, and so does the boot, whose id
    goes into the file ``boot_id``. When the process ends, all on that host do. Skips the test as
    :func:`small_disk`."""
    if not _isolate():
        pytest.skip("no network and process namespaces here (unshare -Urnpf)")
    boot_id.write_text(f"{uuid.uuid4()}\n")
    mount = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return (*_isolate(), "sh", "-c", mount, str(boot_id))
