"""What is started as the service, in which environment, and the error if it does not start."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import ServiceStartError, ServiceUnavailableError
from livingai.service.launch import launch_service, service_environment
from livingai.service.report import read_report
from tests.support import acts, peek
from tests.support.agents import environment
from tests.support.packages import copied_package
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sandbox import small_disk
from tests.support.states import LARGE
from tests.support.waiting import kill, until

#: What a program does with an engine; ends with the outcome on standard output.
SAVE = """
from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
with CheckpointEngine(SQLiteStore({database!r}), **{settings!r}) as engine:
    print(engine.save_sync(ExecutionNode("run-1"), b"state").result({deadline}).stored)
"""


def save_program(place: Place, before: str = "", **settings: object) -> str:
    """The text of a program that saves once."""
    body = SAVE.format(database=str(place.database), settings=settings, deadline=patience(30))
    return textwrap.dedent(before) + body


def run(
    place: Place, *arguments: str, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end."""
    return subprocess.run(
        [sys.executable, *arguments], env=environment(**env), cwd=place.folder, input=stdin,
        capture_output=True, text=True, timeout=patience(90), check=False,
    )  # fmt: skip


def stored(told: subprocess.CompletedProcess[str]) -> None:
    """The program's record was stored, and nothing was complained of."""
    assert (told.returncode, told.stdout, told.stderr) == (0, "True\n", ""), told


# -- its environment --

#: What an agent's environment may say to its Python, and what does not concern the service.
FOREIGN = {
    "PYTHONINSPECT": "1",
    "PYTHONSTARTUP": "/nowhere/startup.py",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONDEVMODE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONDEBUG": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONDUMPREFS": "1",
    "PYTHONMALLOC": "debug",
    "PYTHONHASHSEED": "0",
    "PYTHONSAFEPATH": "1",
    "PYTHONBREAKPOINT": "nowhere.hook",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUNBUFFERED": "1",
    "PYTHON_NO_SUCH_SETTING": "1",
}


def test_environment_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONUSERBASE", "/kept")
    monkeypatch.setenv("OTHER", "kept")
    found = service_environment()
    assert not FOREIGN.keys() & found.keys()
    assert (found["PYTHONUSERBASE"], found["OTHER"]) == ("/kept", "kept")


def test_agents_python_settings_are_not_the_services(state_dir: Place) -> None:
    """The service comes, works and goes, and its log has no word of it."""
    chatty = ("PYTHONVERBOSE", "PYTHONPROFILEIMPORTTIME", "PYTHONOPTIMIZE", "PYTHONSAFEPATH")
    env = {name: value for name, value in FOREIGN.items() if name not in chatty}
    agent = state_dir.agent(env={**env, "PYTHONWARNINGS": "ignore"})
    agent.call(acts.save, "run-1", size=LARGE)
    agent.settled(1)
    compressors = state_dir.compressors()
    pids = state_dir.pids()
    for pid in [pids["supervisor"], pids["dispatcher"], *pids["writers"], *compressors]:
        names = {
            line.split("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0")
        }
        assert not names & FOREIGN.keys()
    agent.leave()
    state_dir.empty()
    assert "the dispatcher ended" not in Path(state_dir.directory.log).read_text()


@pytest.mark.parametrize("options", [",ro", ",nr_inodes=1"], ids=["read-only", "full"])
def test_without_shared_memory(state_dir: Place, options: str) -> None:
    """No semaphores, so no pool of processes: states are encoded all the same, and it is said."""
    prefix = small_disk(Path("/dev/shm"), "64k", options)
    agent = state_dir.agent(prefix=prefix)
    agent.call(acts.save_many, "run-1", 20, size=50_000)
    agent.settled(20)
    answer = state_dir.ask("status")
    until(lambda: "no" in state_dir.ask("status").compression, what="a try to start processes")
    assert "thread" in state_dir.ask("status").compression
    assert answer.pids.compressors == ()
    assert agent.call(acts.sla)["trouble"] == ""
    assert agent.leave() == 0
    state_dir.empty()
    assert "cannot be started" in Path(state_dir.directory.log).read_text()
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(20))
    encoded = peek.stored_state(state_dir.database, "run-1")
    assert len(encoded) >= 50_000


# -- which Python --

NO_PYTHON = {
    "frozen": "sys.frozen = True",
    "PyInstaller": "sys.frozen = True; sys._MEIPASS = '/tmp'",
    "Nuitka": "import __main__; __main__.__compiled__ = True",
    "embedded": "sys.executable = ''",
    "embedded, None": "sys.executable = None",
    "uWSGI": "import types; sys.modules['uwsgi'] = types.ModuleType('uwsgi')",
    "by name": "pass",
}


@pytest.mark.parametrize("how", NO_PYTHON)
def test_a_program_that_is_no_python_is_not_started(state_dir: Place, how: str) -> None:
    """The user's program is not started again: at once a typed error, with the choices."""
    program = state_dir.folder / "program"
    program.write_text(f"#!/bin/sh\necho started >> {state_dir.folder}/starts\n")
    program.chmod(0o755)
    before = f"""
    import sys
    sys.executable = {str(program)!r}
    {NO_PYTHON[how]}
    """
    told = run(state_dir, "-c", save_program(state_dir, before))
    assert told.returncode == 1
    last = told.stderr.splitlines()[-1]
    assert last.startswith("livingai.errors.ServiceStartError: ")
    for choice in ("python=", "livingai serve", 'service="attach"'):
        assert choice in last
    assert not (state_dir.folder / "starts").exists()
    with state_dir.service():  # another user may run it
        stored(run(state_dir, "-c", save_program(state_dir, before)))
    stored(run(state_dir, "-c", save_program(state_dir, before, python=sys.executable)))


def test_a_program_that_only_looks_like_a_python_is_given_up(state_dir: Place) -> None:
    """It has not proved itself: nothing is sent to it, and it is not started again and again."""
    impostor = state_dir.folder / "python3"
    impostor.write_text(f"#!/bin/sh\necho started >> {state_dir.folder}/starts\nexit 0\n")
    impostor.chmod(0o755)
    agent = state_dir.agent(python=str(impostor))
    agent.call(acts.save, "run-1")
    until(lambda: "no Python" in agent.call(acts.sla)["trouble"], what="trouble told", timeout=45)
    trouble = agent.call(acts.sla)["trouble"]
    assert "livingai serve" in trouble
    starts = (state_dir.folder / "starts").read_text().count("started")
    assert starts <= 3
    with state_dir.service():
        agent.settled(1)
        assert agent.call(acts.sla)["trouble"] == ""
        agent.end()


@pytest.mark.parametrize("how", ["-c", "stdin", "script", "module", "isolated path"])
def test_every_kind_of_program_starts_the_service(state_dir: Place, how: str) -> None:
    """None of them is guarded by ``__name__``, and each may be anywhere."""
    text = save_program(state_dir)
    script = state_dir.folder / "program.py"
    script.write_text(text)
    commands: dict[str, tuple[str, ...]] = {
        "-c": ("-c", text),
        "stdin": ("-",),
        "script": (str(script),),
        "module": ("-m", "program"),
        "isolated path": ("-P", "-X", "dev", "-W", "ignore", str(script)),
    }
    stored(run(state_dir, *commands[how], stdin=text if how == "stdin" else ""))
    state_dir.empty()


@pytest.mark.parametrize("how", ["PYTHONPATH", "zipapp"])
def test_service_is_of_the_programs_own_livingai(state_dir: Place, how: str) -> None:
    """Not of another one that is installed, too."""
    copy = copied_package(state_dir.folder / "copy")
    text = save_program(state_dir) + "    from livingai.protocol.verbs import STATUS\n"
    text += "    version = engine._ask_sync(STATUS).version\n"
    text += "assert version.startswith('9.'), version\n"
    script = state_dir.folder / "program.py"
    script.write_text(text)
    if how == "zipapp":
        archive = state_dir.folder / "app.pyz"
        with zipfile.ZipFile(archive, "w") as file:
            for path in copy.rglob("*"):
                file.write(path, path.relative_to(copy))
            file.writestr("__main__.py", text)
        told = run(state_dir, str(archive), PYTHONPATH="")
    else:
        told = run(state_dir, str(script), PYTHONPATH=str(copy))
    stored(told)


def test_modules_beside_the_program_do_not_get_in_the_way(state_dir: Place) -> None:
    """A module of the user's with the name of one of the standard library that only the service
    imports."""
    for name in ("ctypes", "multiprocessing", "pickle", "queue"):
        (state_dir.folder / f"{name}.py").write_text("raise ImportError('the user has this')\n")
    script = state_dir.folder / "program.py"
    script.write_text(save_program(state_dir))
    stored(run(state_dir, str(script)))
    state_dir.empty()


# -- what does not come --

BROKEN_STORE = """
import os, sys, time
from livingai import SQLiteStore, CheckpointEngine, ExecutionNode
from livingai.stores.base import StoreSpec
class Store(SQLiteStore):
    def spec(self):
        return StoreSpec("__main__:Store", super().spec().kwargs)
engine = CheckpointEngine(Store({database!r}))
engine.save_sync(ExecutionNode("run-1"), b"state")
deadline = time.monotonic() + 60
while "in a row" not in engine.sla().trouble and time.monotonic() < deadline:
    time.sleep(0.01)
print(engine.sla().trouble, flush=True)
sys.stdin.read()
engine.close_sync(0.1)
"""


def test_a_dispatcher_that_dies_again_and_again(state_dir: Place) -> None:
    """A store of the program's own, which no other process can import: agents and ``status`` say
    so, and the starts come to an end."""
    state_dir.tracebacks_allowed = True
    told = run(state_dir, "-c", BROKEN_STORE.format(database=str(state_dir.database)))
    assert told.returncode == 0, told
    assert "died 3 times in a row, each time: ConfigurationError: the store class" in told.stdout
    assert "left with 1 writes that are not stored" in told.stderr
    state_dir.empty(timeout=30)
    log = Path(state_dir.directory.log).read_text()
    assert log.count("giving up after 8 deaths") >= 1
    assert "ConfigurationError" in read_report(state_dir.directory.path).trouble
    status = run(state_dir, "-m", "livingai.cli", "status", state_dir.directory.path)
    assert "not stored yet   1 records" in status.stdout
    assert "ConfigurationError: the store class" in status.stdout


def test_a_writer_that_dies_again_and_again(state_dir: Place) -> None:
    agent = state_dir.agent(env={"LIVINGAI_FAILPOINTS": "writer.before_commit=kill*1"})
    agent.call(acts.save, "run-1")
    until(
        lambda: "writer died (killed by SIGKILL)" in agent.call(acts.sla)["trouble"],
        what="the reason told",
        timeout=30,
    )
    agent.kill()
    kill(*state_dir.service_processes())  # their failpoint would go on for a while
    state_dir.service_killed = True


def test_a_python_that_is_killed_as_it_starts_is_one_nevertheless(state_dir: Place) -> None:
    """As the kernel does where memory is short: the error says so, and the next start succeeds."""
    program = state_dir.folder / "python"
    once = state_dir.folder / "killed"
    program.write_text(
        f'#!/bin/sh\nmkdir "{once}" 2>/dev/null && kill -KILL $$\nexec "{sys.executable}" "$@"\n'
    )
    program.chmod(0o755)
    store = state_dir.store()
    settings = EngineConfig(python=str(program))
    config = ServiceConfig.build(store, state_dir.directory.path, settings)
    state_dir.directory.ensure(store.url)
    with pytest.raises(ServiceUnavailableError, match="ended by signal 9 ") as told:
        launch_service(config, str(program))
    assert not isinstance(told.value, ServiceStartError)
    once.rmdir()
    done = run(state_dir, "-c", save_program(state_dir, python=str(program)))
    assert (done.returncode, done.stdout) == (0, "True\n"), done
    assert once.exists()
