"""The handler of SIGBUS: replaces pages that a mapped file no longer has by empty memory.

The kernel sends SIGBUS to the thread that has touched such a page, in the middle of that. When the
handler returns, the access is made again; so the page is replaced first. Python's own handlers run
only after the access, which would never end; this one is called by the kernel itself, through
ctypes, which takes the interpreter's lock if the thread does not hold it.

Only files of ours are dealt with, known by where they are mapped and by their inodes. Any other bus
error is left to whoever handled the signal before (nobody, faulthandler): that handler is put back,
and meets the same error at once.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Callable
from typing import Any, Final

_SA_SIGINFO: Final = 4
#: Places in siginfo_t, and what the kernel says of a page that is not there (POSIX: BUS_ADRERR).
_SI_CODE, _SI_ADDR, _BUS_ADRERR = 8, 16, 2
_MAP_FIXED: Final = 0x10
_FAILED: Final = ctypes.c_void_p(-1).value

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """``struct sigaction`` of Linux's C libraries on 64-bit machines."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class _Buffer(ctypes.Structure):
    """``Py_buffer`` of Python's C API."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("rest", ctypes.c_void_p * 5),
    ]


#: One thread replaces at a time; another one that met the same error finds the page replaced.
_replacing = threading.Lock()


def _free_lock() -> None:
    global _replacing  # noqa: PLW0603 - a thread of the parent may have held it
    _replacing = threading.Lock()


os.register_at_fork(after_in_child=_free_lock)
#: What must live as long as the process: the handler, and the one before.
_kept: list[Any] = []


def address_of(mapping: mmap.mmap) -> int:
    """Where a file is mapped."""
    view = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(mapping), ctypes.byref(view), 0)
    address: int = view.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return address


def handle_bus_errors(
    number: int, place_at: Callable[[int], tuple[int, int, int] | None], note: Callable[[str], None]
) -> None:
    """From now on, pages missing from mapped files that ``place_at`` knows (begin, end and inode of
    the mapping at an address) are replaced, and their paths given to ``note``. Raises OSError."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError("the structures below are those of 64-bit machines")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    ]  # fmt: skip
    before = _Action()

    def replace(address: int) -> str | None:
        """Replace the page and all behind it; the file's path, "" if another thread has done it,
        None if it is not ours."""
        place, found = place_at(address), _mapping_at(address)
        if place is None or found is None:
            return None
        inode, end, protection, path = found
        if not inode:
            return ""
        if inode != place[2]:
            return None
        page = address & -mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        return path if libc.mmap(page, end - page, protection, flags, -1, 0) != _FAILED else None

    def handle(_: int, info: int, __: int) -> None:
        path, code = None, ctypes.c_int.from_address(info + _SI_CODE).value
        if code == _BUS_ADRERR:
            try:
                with _replacing:
                    path = replace(ctypes.c_size_t.from_address(info + _SI_ADDR).value)
            except (OSError, MemoryError):  # out of descriptors
                path = None
            except RuntimeError:  # another thread maps a file just now: the access tries again
                return
        if path:
            note(path)
        if path is not None:
            return
        libc.sigaction(number, ctypes.byref(before), None)
        if code <= 0:  # a process has sent it: no access is made again
            os.kill(os.getpid(), number)

    handler = _Handler(handle)
    action = _Action(ctypes.cast(handler, ctypes.c_void_p), flags=_SA_SIGINFO)
    _kept[:] = [handler, before]
    if libc.sigaction(number, ctypes.byref(action), ctypes.byref(before)):
        raise OSError(ctypes.get_errno(), "sigaction")


def _mapping_at(address: int) -> tuple[int, int, int, str] | None:
    """Inode, end, protection and path of the mapping at an address."""
    with open("/proc/self/maps", "rb", buffering=0) as file:
        lines = file.readall().splitlines()
    for line in lines:
        span, rights, _, _, inode, *path = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split(b"-"))
        if start <= address < end:
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if rights[1:2] == b"w" else 0)
            return int(inode), end, protection, os.fsdecode(path[0]) if path else ""
    return None
