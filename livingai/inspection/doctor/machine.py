"""The machine: shared memory, file systems, space, limits."""

from __future__ import annotations

import os
import re
import resource
import tempfile
from typing import Final, NamedTuple

from livingai.inspection.doctor.ailment import Examination, Grade

#: Where POSIX semaphores live, which the compressors' pool needs; shm_overview(7).
SHARED_MEMORY: Final = "/dev/shm"
_MIB: Final = 1 << 20
_LITTLE_SHM_BYTES: Final = 1 * _MIB
#: A new segment of the journal has 16 MiB, and one more is made ahead.
_NO_SPACE_BYTES: Final = 32 * _MIB
_LITTLE_SPACE_BYTES: Final = 512 * _MIB
_FEW_INODES: Final = 1000
_FEW_DESCRIPTORS: Final = 1024
#: What an idle service takes is 53 MB; a state of 100 MB is in memory several times.
_LITTLE_MEMORY_BYTES: Final = 256 * _MIB
_TIGHT: Final = 0.9

#: File systems whose locks and mapped files are shared by several machines, or by none.
_NETWORK: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "beegfs",
    "gpfs", "ocfs2", "gfs2", "davfs", "virtiofs", "vboxsf", "drvfs", "prl_fs",
})  # fmt: skip
_NETWORK_FUSE: Final = re.compile(
    r"fuse\.(sshfs|glusterfs|s3fs|gcsfuse|rclone|ceph.*|mount-s3|osxfs|juicefs)"
)
_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    point: str
    kind: str
    device: str


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The file system that a real path is on; None if the table does not say."""
    found: Mount | None = None
    for line in mountinfo.splitlines():
        left, sign, right = line.partition(" - ")
        columns, behind = left.split(), right.split()
        if not sign or len(columns) < 5 or len(behind) < 2:
            continue
        point = _unescaped(columns[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two at one place the later one lies above.
        if inside and (found is None or len(point) >= len(found.point)):
            found = Mount(point, behind[0], behind[1])
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def is_shared(kind: str) -> bool:
    """Whether a file system of this kind is used over a network, or by a host and its guests."""
    return kind in _NETWORK or _NETWORK_FUSE.fullmatch(kind) is not None


def examine_machine(found: Examination) -> None:
    """What all services of this machine share."""
    _shared_memory(found)
    _descriptors(found)
    _memory(found)


def _shared_memory(found: Examination) -> None:
    why = "states are then compressed by one thread instead of by processes, which is slow"
    mend = "mount a tmpfs there: `docker run --shm-size=64m`, or an emptyDir of medium Memory"
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
            os.posix_fallocate(file.fileno(), 0, 4096)
        space = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        what = f"{SHARED_MEMORY} cannot be used: {error.strerror or error}"
        found.find("shared-memory", Grade.WARNING, what, why, mend)
        return
    free = space.f_bavail * space.f_frsize
    if free < _LITTLE_SHM_BYTES:
        what = f"{SHARED_MEMORY} has only {free} bytes left"
        found.find("shared-memory", Grade.WARNING, what, why, mend)


def _descriptors(found: Examination) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEW_DESCRIPTORS:
        found.find(
            "descriptors", Grade.WARNING, f"a process may have only {hard} open files",
            "the service needs about 10 for each agent; agents beyond that wait",
            "raise the limit: LimitNOFILE=65536 in the unit, `ulimit -Hn`, --ulimit nofile=65536",
        )  # fmt: skip


def _memory(found: Examination) -> None:
    group = memory_group()
    if group is None:
        return
    mend = "raise MemoryMax= of the unit, or the container's memory limit"
    if group.limit < _LITTLE_MEMORY_BYTES:
        found.find(
            "memory", Grade.WARNING, f"this control group may use {group.limit // _MIB} MiB",
            "an idle service takes 53 MB, and a state is in memory several times while it is "
            "compressed; the kernel kills what needs more (nothing is lost, but it is late)", mend,
        )  # fmt: skip
    elif group.used > _TIGHT * group.limit:
        found.find(
            "memory", Grade.WARNING,
            f"{group.used // _MIB} of {group.limit // _MIB} MiB of this control group are used",
            "the kernel kills what needs more (nothing is lost, but it is late)", mend,
        )  # fmt: skip
    if group.killed:
        found.find(
            "out-of-memory", Grade.WARNING,
            f"the kernel has killed {group.killed} processes of this control group for want of "
            "memory", "if they were the service's, what they had under way was done again", mend,
        )  # fmt: skip


class MemoryUse(NamedTuple):
    """Of a control group with a limit."""

    limit: int
    used: int
    killed: int


def memory_group() -> MemoryUse | None:
    """The control group of this process; None if it has no limit, or that cannot be read."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    names: tuple[str, str, str]
    roots: tuple[str, ...]
    for number, controllers, path in lines:
        if number == "0":
            names = ("memory.max", "memory.current", "memory.events")
            roots = (f"/sys/fs/cgroup{path}", f"/sys/fs/cgroup/unified{path}", "/sys/fs/cgroup")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
            roots = (f"/sys/fs/cgroup/memory{path}", "/sys/fs/cgroup/memory")
        else:
            continue
        for root in roots:
            limit, used = (_number(os.path.join(root, name)) for name in names[:2])
            # Version 1 says "no limit" by a number larger than any machine.
            if limit is not None and used is not None and limit < 1 << 60:
                return MemoryUse(limit, used, _killed(os.path.join(root, names[2])))
    return None


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _killed(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            words = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(word[1]) for word in words if len(word) == 2 and word[0] == "oom_kill")


def examine_disk(found: Examination, path: str, what: str) -> None:
    """The file system of a path that is there; ``what`` it is for. Each is told once."""
    try:
        space = os.statvfs(path)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mount = mount_of(os.path.realpath(path), file.read())
    except OSError as error:
        text = f"{what} {path} cannot be looked at: {error.strerror or error}"
        found.find("disk", Grade.ERROR, text, "nothing can be saved there", "mend the disk")
        return
    if space.f_flag & os.ST_RDONLY:
        found.find(
            "read-only", Grade.ERROR, f"{what} {path} is on a read-only file system",
            "nothing can be saved there", "remount it, or name another with directory=",
        )  # fmt: skip
    free = space.f_bavail * space.f_frsize
    if free < _LITTLE_SPACE_BYTES:
        found.find(
            "disk-full", Grade.ERROR if free < _NO_SPACE_BYTES else Grade.WARNING,
            f"{what} {path} has {free // _MIB} MiB of disk left",
            "on a full disk save raises DiskFullError; what was accepted is kept",
            "make room: `livingai prune --keep-last N`, or a larger disk",
        )  # fmt: skip
    if space.f_files and space.f_favail < _FEW_INODES:
        found.find(
            "inodes", Grade.ERROR if not space.f_favail else Grade.WARNING,
            f"the disk of {what} {path} has only {space.f_favail} inodes left",
            "no file can be made there, whatever room there is", "remove small files there",
        )  # fmt: skip
    if mount is None:
        return
    if is_shared(mount.kind):
        found.find(
            "network-disk", Grade.ERROR,
            f"{what} {path} is on {mount.kind} ({mount.device} at {mount.point})",
            "locks and mapped files do not work as the journal and SQLite need them there; records "
            "may be damaged or seen late",
            "use a local disk: directory= of the engine, or --directory of `livingai serve`",
        )  # fmt: skip
    elif mount.kind in _VOLATILE:
        found.find(
            "volatile-disk", Grade.WARNING,
            f"{what} {path} is on {mount.kind}, in memory",
            "what is there survives kill -9, but no restart of the machine",
            "use a disk, unless this is meant for tests",
        )  # fmt: skip
    elif mount.kind in ("overlay", "aufs") and mount.point == "/":
        found.find(
            "container-layer", Grade.NOTE,
            f"{what} {path} is in the container's own layer ({mount.kind})",
            "it is gone when the container is removed", "mount a volume there",
        )  # fmt: skip
