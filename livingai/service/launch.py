"""Starting the service: which Python may run it, in which environment, and how it proves itself.

Rules:

1. Nothing is started that does not look like a Python: in a frozen or embedded program
   ``sys.executable`` is the user's program, and starting that again is what must not happen.
2. What was started counts only once it has proved that it is this very livingai
   (``--prove``, :mod:`livingai.workers.supervisor`). The settings, which may hold credentials, are
   sent to it after that, and never on a command line.
3. It has a Python environment of its own: of the agent's variables only those are kept that say
   where modules are and how the names of files are encoded.

The supervisor is a session of its own, detached from the agent by a second fork, so it outlives the
agent and leaves it no zombie. If the agent is process 1 (or a subreaper), the kernel would make the
agent its parent again; so it starts the supervisor as a child, and collects it when it ends.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from typing import IO, Any, Final

from livingai import _version
from livingai.config import ServiceConfig
from livingai.errors import ServiceStartError, ServiceUnavailableError
from livingai.queue.directory import StateDirectory
from livingai.service.logfile import open_log

#: Seconds that a started process may take to prove itself, and to detach itself.
_PROVE_S: Final = 30.0
_DETACH_S: Final = 20.0
_PACKAGE: Final = os.path.dirname(os.path.realpath(_version.__file__))
_PACKAGE_PARENT: Final = os.path.dirname(os.path.dirname(os.path.abspath(_version.__file__)))
#: Names of Python's executables: python3, python3.12, python3.13t, python3-dbg, pypy3, ...
_PYTHON_NAME: Final = re.compile(r"\.?(python|pypy)[\d.]*[a-z]?(-dbg|-debug|-wrapped)?")
#: Variables of the agent's Python that are the service's, too. The others change how a program runs
#: (PYTHONINSPECT, PYTHONSTARTUP, PYTHONDEVMODE, PYTHONWARNINGS, PYTHONTRACEMALLOC, ...), and the
#: service is another program.
_KEPT: Final = frozenset({
    # where modules are (PYTHONPATH is our own)
    "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONNOUSERSITE",
    # how the names of files are encoded
    "PYTHONCOERCECLOCALE",
    # whether and where compiled modules may be written
    "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX",
})  # fmt: skip
_PR_GET_CHILD_SUBREAPER: Final = 37
_CHOICES: Final = (
    "Pass python=\"/path/to/python3\" (one that can import livingai), or run `livingai serve` "
    "beside the agents and pass service=\"attach\". Nothing is lost: records wait in the journal."
)  # fmt: skip


# -- which Python --


def service_python(setting: str | None) -> str:
    """The path of the Python that may be started as the service. Starts nothing.

    Raises:
        ServiceStartError: there is none; the message says why, and what the choices are.
    """
    if setting is not None:
        found = shutil.which(setting)
        if found is None:
            raise ServiceStartError(f"python={setting!r} is no program that can be run. {_CHOICES}")
        return found
    if why := _no_python():
        raise ServiceStartError(f"the service cannot be started from here: {why}. {_CHOICES}")
    return sys.executable


def _no_python() -> str:
    """Why ``sys.executable`` is not to be started; "" if it is a Python."""
    if _frozen():
        return f"this is a frozen program, {sys.executable or 'of no name'} is not a Python"
    executable = sys.executable
    if not executable:
        return "Python is embedded in another program (sys.executable is empty)"
    if "uwsgi" in sys.modules:
        return "Python is embedded in uWSGI"
    names = (os.path.basename(executable), os.path.basename(os.path.realpath(executable)))
    if not any(_PYTHON_NAME.fullmatch(name) for name in names):
        return f"sys.executable is {executable}, which does not look like a Python"
    if not os.access(executable, os.X_OK):
        return f"sys.executable is {executable}, which cannot be run"
    return ""


def _frozen() -> bool:
    """PyInstaller, cx_Freeze, py2exe, Nuitka, PyOxidizer."""
    return bool(
        getattr(sys, "frozen", False)
        or hasattr(sys, "_MEIPASS")
        or getattr(sys, "oxidized", False)
        or "__compiled__" in globals()
        or hasattr(sys.modules.get("__main__"), "__compiled__")
    )


# -- its environment --


def service_environment(python: str | None = None) -> dict[str, str]:
    """The environment of the service's processes: this one's, but for what changes how a Python
    runs, and with a path on which they find the modules that this process can import (livingai
    itself, a store of the user's). The standard library comes first on it, so that the service does
    not load a module of the user's that has the name of a standard one."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name in _KEPT
    }
    if sys.flags.utf8_mode:
        environment["PYTHONUTF8"] = "1"
    if _frozen():  # PyInstaller's bootloader points it to its own libraries
        environment.pop("LD_LIBRARY_PATH", None)
        if "LD_LIBRARY_PATH_ORIG" in environment:
            environment["LD_LIBRARY_PATH"] = environment.pop("LD_LIBRARY_PATH_ORIG")
        environment.pop("PYTHONHOME", None)
        return environment
    paths = [os.path.abspath(path or ".") for path in sys.path]
    standard = [path for path in paths if _is_standard(path)]
    if python is not None and not _same_python(python):
        environment.pop("PYTHONHOME", None)
        standard, paths = [], [path for path in paths if path not in standard]
    ordered = dict.fromkeys([*standard, _PACKAGE_PARENT, *paths])
    environment["PYTHONPATH"] = os.pathsep.join(path for path in ordered if os.pathsep not in path)
    return environment


def _is_standard(path: str) -> bool:
    """Whether a folder (or zip file) of ``sys.path`` holds the standard library."""
    library = sysconfig.get_path("stdlib")
    dynamic = os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
    zipped = os.path.join(
        os.path.dirname(library), f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    )
    base = os.path.join(sys.base_prefix, sys.platlibdir, os.path.basename(library))
    return path in (library, dynamic, zipped, base, os.path.join(base, "lib-dynload"))


def _same_python(python: str) -> bool:
    return os.path.realpath(python) == os.path.realpath(sys.executable or "/nowhere")


# -- the start --


def start_supervisor(
    config: ServiceConfig,
    python: str | None,
    *options: str,
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
) -> subprocess.Popen[bytes]:
    """Start a supervisor, see its proof, and send it its settings. Its standard input stays open.

    Raises:
        ServiceStartError: what was started is no Python with this livingai; it has been ended.
        ServiceUnavailableError: no process could be started, or it was killed at once.
    """
    executable = service_python(python)
    nonce = secrets.token_hex(8)
    hear, speak = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    command = [
        executable, "-P", "-m", "livingai.workers.supervisor",
        "--prove", str(speak), nonce, *options,
    ]  # fmt: skip
    try:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd="/",
                env=service_environment(python),
                pass_fds=[speak],
                start_new_session=True,
            )
        except OSError as error:
            raise ServiceUnavailableError(
                f"the service cannot be started ({error}); nothing is lost, records wait in the "
                "journal. Run `livingai serve` to see what it says."
            ) from error
        finally:
            os.close(speak)
        try:
            _check_proof(_hear(hear), nonce, executable, process)
            assert process.stdin is not None
            os.write(process.stdin.fileno(), json.dumps(config.to_dict()).encode() + b"\n")
        except BrokenPipeError:
            pass  # it has ended, and its parent sees that
        except BaseException:
            _end(process)
            raise
    finally:
        os.close(hear)
    return process


#: Signals that somebody sends: a process that they end may be a good one.
_SENT = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def _hear(fd: int) -> bytes:
    """A line from the descriptor, or what there is at its end or after a time."""
    said = b""
    deadline = time.monotonic() + _PROVE_S
    poller = select.poll()  # select() takes no descriptor above 1023
    poller.register(fd, select.POLLIN)
    while not said.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
        if poller.poll(left * 1000):
            data = os.read(fd, 4096)
            if not data:
                break
            said += data
    return said


def _check_proof(
    said: bytes, nonce: str, executable: str, process: subprocess.Popen[bytes]
) -> None:
    """Raise ServiceStartError unless the process has proved itself; ServiceUnavailableError if it
    was killed before it could: that says nothing about it."""
    try:
        proof: dict[str, Any] = dict(json.loads(said))
    except (ValueError, TypeError):
        proof = {}
    if proof.get("nonce") != nonce:
        try:
            code = process.wait(1.0)
        except subprocess.TimeoutExpired:
            how = "it does not say so"
        else:
            if -code in _SENT:
                raise ServiceUnavailableError(
                    f"{executable}, which was to become the service, was ended by signal {-code} "
                    "(9: the kernel does so where memory is short); service.log in the state "
                    "directory has what it said. Nothing is lost: records wait in the journal."
                )
            how = f"it ended with status {code}"
        raise ServiceStartError(
            f"{executable} is no Python that can import livingai from {_PACKAGE} ({how}; "
            f"service.log in the state directory has what it said). {_CHOICES}"
        )
    same = proof.get("package") == _PACKAGE or _frozen()
    if not same or proof.get("version") != _version.__version__:
        raise ServiceStartError(
            f"{executable} imports another livingai ({proof.get('version')} in "
            f"{proof.get('package')}) than this program ({_version.__version__} in {_PACKAGE}). "
            f"{_CHOICES}"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a started process with all that it may have started; its session is its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def launch_service(config: ServiceConfig, python: str | None = None, *, follow: int = 0) -> None:
    """Start the service in the background; returns once it is detached, not once it is ready. With
    ``follow`` it has the one whose supervisor is that process end once it can work itself, and
    takes its place.

    Raises:
        ServiceStartError: there is no Python that may be started.
        ServiceUnavailableError: no process could be started.
    """
    keep = _collects_orphans()
    options = ["--detach", "--keep"] if keep else ["--detach"]
    if follow:
        options += ["--follow", str(follow)]
    try:
        with open_log(StateDirectory(config.directory).log) as out:
            process = start_supervisor(config, python, *options, stdout=out, stderr=out)
    except OSError as error:
        if isinstance(error, ServiceUnavailableError):
            raise
        raise ServiceUnavailableError(f"the service cannot be started: {error}") from error
    assert process.stdin is not None
    process.stdin.close()
    if keep:
        threading.Thread(target=process.wait, name="service-reaper", daemon=True).start()
        return
    try:
        code = process.wait(_DETACH_S)
    except subprocess.TimeoutExpired:
        _end(process)
        raise ServiceUnavailableError(
            f"the started service did not detach itself within {_DETACH_S:g} s, so it was ended; "
            "see service.log in the state directory"
        ) from None
    if code:
        raise ServiceUnavailableError(
            f"the started service ended with status {code} before it detached itself; see "
            "service.log in the state directory"
        )


def _collects_orphans() -> bool:
    """Whether this process is given the children of its children when those end."""
    if os.getpid() == 1:
        return True
    try:
        import ctypes  # noqa: PLC0415 - not every process starts a service, or has it

        found = ctypes.c_int(0)
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    except (OSError, AttributeError, ImportError):
        return False
    return bool(found.value)
