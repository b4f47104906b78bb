"""Exceptions that a recorded call raised: all that an ``except`` can see of them comes back."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import dataclasses
import decimal
import enum
import functools
import gc
import json
import os
import pathlib
import pickle
import re
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
import zoneinfo
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Annotated, Any

import pytest

from livingai import CheckpointEngine, register_exception, serial
from livingai.errors import ConfigurationError, RecordedError
from livingai.runs.exceptions.hooks import _registered
from livingai.runs.failures import RAISED, rebuild
from tests.support.exceptions import come_back, differences, recorded
from tests.support.runs import new_id


def raised(provoke: Callable[[], Any]) -> Exception:
    try:
        provoke()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_every_exception_of_the_standard_library() -> None:
    """In a process of its own, which imports all of the standard library."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.exceptions"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"\d{3} classes, \d{4} exceptions\n", done.stdout), (
        done.stdout + done.stderr
    )


# -- provoked ones --


def chained() -> None:
    try:
        try:
            {}["a"]  # type: ignore[index]
        except KeyError as error:
            raise OSError(28, "no space", "a.txt") from error
    except OSError as error:
        error.add_note("while saving")
        raise RuntimeError("lost") from error


def suppressed() -> None:
    try:
        int("x")
    except ValueError:
        raise LookupError("nothing") from None


def grouped() -> None:
    raise ExceptionGroup("many", [raised(chained), ExceptionGroup("inner", [TypeError("t", 1)])])


def renamed() -> None:
    os.rename("/nowhere/a", pathlib.Path("/nowhere/b"))


def sql() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("select * from nothing")


def program(text: str) -> None:
    exec(text, {})  # noqa: S102 - what a program would do by mistake


async def hangs() -> None:
    async with asyncio.timeout(0.001):
        await asyncio.Event().wait()


def lost() -> None:
    raise gone(OSError)(3, "x")


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Detail:
    code: int
    colour: Colour


class Slotted(Exception):
    __slots__ = ("detail",)

    def __init__(self, *, detail: Detail) -> None:
        super().__init__("slotted", detail.colour, collections.deque([1]), range(3), type(detail))
        self.detail = detail


class Wordy(Exception):
    def __init__(self, what: str, code: int) -> None:
        self.what, self.code = what, code

    def __str__(self) -> str:
        return f"{self.what} ({self.code})"

    def __repr__(self) -> str:
        return f"<Wordy {self.code}>"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Demanding(KeyError):
    def __new__(cls, one: int, *, two: int) -> Any:
        return super().__new__(cls)

    def __init__(self, one: int, *, two: int) -> None:
        self.both = (one, two)


class Group(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception]) -> Any:
        made = super().__new__(cls, "several", errors)
        made.count = len(errors)  # type: ignore[attr-defined]
        return made

    def __init__(self, errors: list[Exception]) -> None:
        """As given."""


def constructed() -> None:
    try:
        raise Frozen(3)
    except Frozen as error:
        raise Group([Demanding(1, two=2), error]) from error


def slotted() -> None:
    raise Slotted(detail=Detail(3, Colour.RED))


def wordy() -> None:
    raise Wordy("busy", 7)


PROVOKED: list[Callable[[], Any]] = [
    chained,
    constructed,
    suppressed, grouped, renamed, slotted, wordy,
    lambda: pathlib.Path("/nowhere/x").stat(),
    lambda: os.listdir(pathlib.Path("/nowhere")),
    lambda: os.link("/nowhere/a", "/nowhere/b"),
    lambda: ET.fromstring("<a"),
    functools.partial(b"\xff".decode),
    functools.partial("\udc80".encode),
    lambda: json.loads("{"),
    lambda: decimal.Context(traps=[decimal.InvalidOperation]).create_decimal("x"),
    lambda: re.compile("("),
    lambda: subprocess.run(["false"], check=True),
    lambda: subprocess.run(["sleep", "9"], timeout=0.01, check=True),
    lambda: socket.create_connection(("127.0.0.1", 1)),
    lambda: socket.getaddrinfo("127.0.0.1", "no-such-service"),
    lambda: urllib.request.urlopen("http://127.0.0.1:1/"),
    lambda: zoneinfo.ZoneInfo("No/Where"),
    lambda: asyncio.run(hangs()),
    lambda: next(iter(())),
    lambda: Future[None]().result(0),
    sql,
    *(
        functools.partial(program, text)
        for text in (
            "open('/nowhere/at-all')", "'text'.nothing", "import sys; sys.nothing", "int.nothing",
            "nothing", "import nothing.at.all", "from os import nothing", "x = (", "def f(: pass",
            "def f():\n  print(x)\n  x = 1\nf()", "1 / 0", "[][0]", "{}['a']", "int('x')",
            "''.join([1])", "raise Exception", "raise ValueError()",
            "raise ValueError(1, 'a', None)",
            "import os; os.kill(-1.5, 0)", "def f(n): f(n + 1)\nf(0)", "assert 0, {'a': 1}",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("provoke", PROVOKED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_provoked_exceptions(provoke: Callable[[], Any]) -> None:
    error = raised(provoke)
    again = come_back(error)
    assert not differences(error, again)
    assert not differences(again, come_back(again)), "recorded once more, it is another one"


def test_the_body_of_an_http_error(http_server: str) -> None:
    error = raised(lambda: urllib.request.urlopen(f"{http_server}/404"))
    again = come_back(error)
    assert isinstance(error, urllib.error.HTTPError)
    assert type(again) is urllib.error.HTTPError
    for one in (error, again):  # recording has read nothing
        assert (one.code, one.reason, one.filename) == (404, "Not Found", f"{http_server}/404")
        assert (str(one), one.headers["Retry-After"]) == ("HTTP Error 404: Not Found", "3")
        assert json.loads(one.read()) == {"error": "no"}
        assert one.read() == b""
        one.close()


# -- cause, context, cycles, bounds --


def test_circles() -> None:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__context__ = other, one
    other.args = ("other", other)
    one.others = [other]  # type: ignore[attr-defined]
    again = come_back(one)
    back = again.__cause__
    assert type(back) is KeyError
    assert back.__context__ is again
    assert back.args[1] is back
    assert again.others[0] is back  # type: ignore[attr-defined]


def test_a_chain_without_end_is_cut() -> None:
    error: Exception = ValueError("0")
    for number in range(5000):
        later = ValueError(f"{number}")
        later.__cause__, error = error, later
    node = recorded(error)
    assert len(str(node.metadata[RAISED])) < 20_000
    depth, link = 0, rebuild(node)
    while link.__cause__ is not None:
        depth, link = depth + 1, link.__cause__  # type: ignore[assignment]
    assert 30 <= depth <= 32


def test_large_attributes_are_left_out() -> None:
    error = OSError(5, "bad")
    error.small, error.large = "s", b"x" * (2 << 20)  # type: ignore[attr-defined]
    node = recorded(error)
    again = rebuild(node)
    assert (again.small, hasattr(again, "large")) == ("s", False)  # type: ignore[attr-defined]
    assert node.metadata[RAISED]["left_out"] == ["large"]
    assert "without large" in again.__notes__[0]


def test_arguments_without_end_are_cut() -> None:
    objects = [[object()] * 1000] * 100
    node = recorded(ValueError(objects, "end"))
    assert len(serial.pack(node.metadata)) < 2 << 20
    again = rebuild(node)
    assert isinstance(again, ValueError)
    assert again.args[1] == "end"
    many = ExceptionGroup("many", [OSError(number, "failed") for number in range(1500)])
    assert [each.errno for each in come_back(many).exceptions] == list(range(1500))  # type: ignore[attr-defined]


class Unnamed(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> Any:
        raise RuntimeError

    def __getstate__(self) -> Any:
        raise RuntimeError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileObject:
    def __repr__(self) -> str:
        raise RuntimeError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_hostile_exceptions_are_recorded() -> None:
    error = Hostile(1)
    cause = Hostile(HostileObject(), {HostileObject(): [HostileObject()]})
    BaseException.__setattr__(error, "__cause__", cause)
    again = come_back(error)
    assert isinstance(again, Hostile)
    assert isinstance(again, RecordedError)
    assert str(again) == "<its str() raised RuntimeError>"
    nameless = Unnamed("Nameless", (Exception,), {})
    assert isinstance(come_back(nameless("x")), RecordedError)
    mine = ValueError("plain", HostileObject())
    mine.thing = HostileObject()  # type: ignore[attr-defined]
    back = come_back(mine)
    assert isinstance(back, ValueError)
    assert (back.args[0], repr(back.args[1])) == ("plain", "<its repr() raised RuntimeError>")


# -- classes that are not there --


class Base(Exception):
    pass


def gone(*bases: type, module: str = "not_loaded", **body: Any) -> Any:
    return type("Gone", bases, {"__module__": module, **body})


@pytest.mark.parametrize(
    "bases",
    [
        (OSError,),
        (Base,),
        (urllib.error.URLError,),
        (Base, ConnectionError),
        (KeyError,),
        (UnicodeDecodeError,),
        (ExceptionGroup,),
        (RecordedError,),
        (StopIteration,),
    ],
)
def test_a_class_that_is_gone_is_caught_by_its_bases(bases: tuple[type[Exception], ...]) -> None:
    args: tuple[Any, ...] = ("it", [ValueError(1)]) if ExceptionGroup in bases else ("it",)
    args = ("utf-8", b"a", 0, 1, "why") if UnicodeDecodeError in bases else args
    error = gone(*bases)(*args)
    error.code = 7
    node, looks = recorded(error), (str(error), repr(error))
    del error
    gc.collect()  # the class, too
    again = rebuild(node)
    assert isinstance(again, RecordedError)
    for base in bases:
        assert isinstance(again, base)
    assert (type(again).__name__, str(again), repr(again)) == ("Gone", *looks)
    assert again.code == 7  # type: ignore[attr-defined]
    assert again.type_name == "Gone"
    assert "not_loaded.Gone is not loaded" in again.__notes__[-1]
    for twin in (pickle.loads(pickle.dumps(again)), copy.copy(again), rebuild(recorded(again))):
        assert (str(twin), repr(twin)) == looks
        assert twin.code == 7  # type: ignore[union-attr]
        assert isinstance(twin, bases)


def test_a_class_of_a_function_is_found() -> None:
    class Local(Base):
        pass

    assert type(come_back(Local("x"))) is Local


def test_a_class_whose_looks_cannot_be_had_back() -> None:
    class Busy(Exception):
        def __str__(self) -> str:
            return f"busy: {self.connection.name}"  # type: ignore[attr-defined]

    class Connection:
        name = "db1"

    error = Busy()
    error.connection = Connection()  # type: ignore[attr-defined]
    again = come_back(error)
    assert isinstance(again, Busy)
    assert isinstance(again, RecordedError)
    assert str(again) == "busy: db1"


# -- records that were planted, or written by the former version --


def planted(description: Any, name: str = "ValueError") -> Exception:
    node = recorded(ValueError("x"))
    assert node.error is not None
    node.error.type, node.metadata[RAISED] = name, description
    return rebuild(node)


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("Popen", {"module": "subprocess", "args": [["touch", "/tmp/planted"]]}),
        ("antigravity", {"module": "antigravity"}),
        ("X", {"module": "lib2to3.main", "bases": [["lib2to3", "X"]]}),
        ("SystemExit", {"module": "builtins", "args": [3]}),
        ("KeyboardInterrupt", {"module": "builtins"}),
        ("ValueError", {"module": "builtins", "hook": ["subprocess", "Popen", ["=", 1]]}),
        ("ValueError", {"module": "builtins", "held": [["object", "subprocess:Popen", ["=", 1]]]}),
        ("ValueError", {"module": "builtins", "held": [["fields", "subprocess", "Popen", {}]]}),
        ("ValueError", {"module": "builtins", "held": [["error", 77]], "cause": 9, "state": {}}),
        (
            "ExceptionGroup",
            {
                "module": "builtins",
                "state": {"message": ["=", "m"], "exceptions": ["list", [["error", 0]]]},
            },
        ),
        ("ValueError", {"module": 7, "args": 5, "attributes": [], "state": 3, "others": 9}),
        ("x.__class__", {"module": "os", "bases": [[1, 2]]}),
        ("ValueError", {"others": [{}] * 3, "cause": 2}),
    ],
)
def test_planted_records_do_nothing(name: str, description: Any) -> None:
    before = set(sys.modules)
    error = planted(description, name)
    assert type(error) is ValueError or isinstance(error, RecordedError)
    assert not {"antigravity", "lib2to3", "lib2to3.main"} & (set(sys.modules) - before)
    assert not os.path.exists("/tmp/planted")


def test_a_lazy_module_is_not_made_to_import() -> None:
    """``livingai`` imports its names when they are asked for; a record must not ask."""
    code = (
        "import sys, livingai; from livingai.runs.exceptions.types import find_exception; "
        "find_exception(('livingai', 'PostgresStore')); "
        "find_exception(('livingai', 'CheckpointEngine.x')); "
        "print('livingai.engine.engine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (FileNotFoundError(2, "none"), {"module": "builtins", "args": [2, "none"]}),
        (KeyError("k"), {"module": "builtins", "args": ["k"]}),
        (ZeroDivisionError(), {"module": "builtins"}),
        (
            UnicodeDecodeError("utf-8", b"a", 0, 1, "why"),
            {"module": "builtins", "args": ["utf-8", b"a", 0, 1, "why"]},
        ),
        (
            raised(lambda: ET.fromstring("<a")),
            {
                "module": "xml.etree.ElementTree",
                "args": ["unclosed token: line 1, column 0"],
                "attributes": {"code": 5, "position": (1, 0)},
            },
        ),
        (
            ExceptionGroup("g", [ValueError("v")]),
            {
                "module": "builtins",
                "args": ["g"],
                "exceptions": [
                    {"type": "ValueError", "message": "v", "module": "builtins", "args": ["v"]}
                ],
            },
        ),
    ],
)
def test_records_of_the_former_version(error: Exception, description: Any) -> None:
    node = recorded(error)
    node.metadata[RAISED] = description
    again = rebuild(node)
    assert type(again) is type(error)
    assert (str(again), again.args[:1]) == (str(error), error.args[:1])
    if isinstance(error, OSError | SyntaxError):
        assert (again.errno if isinstance(again, OSError) else again.msg) in (2, error.args[0])  # type: ignore[attr-defined]
    if isinstance(again, ExceptionGroup):
        assert repr(again.exceptions) == "(ValueError('v'),)"


def test_a_file_name_that_the_former_version_did_not_record() -> None:
    node = recorded(FileNotFoundError(2, "none", "a.txt"))
    node.metadata[RAISED] = {"module": "builtins", "args": [2, "none"]}
    again = rebuild(node)
    assert isinstance(again, FileNotFoundError)
    assert (again.errno, again.strerror, str(again)) == (2, "none", "[Errno 2] none: 'a.txt'")


# -- hooks --


class Ticket(Exception):
    def __init__(self, client: object) -> None:
        super().__init__("refused")
        self.client = client


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(_registered)
    yield
    _registered.clear()
    _registered.update(before)


@pytest.mark.usefixtures("registry")
def test_a_registered_exception() -> None:
    class Special(Ticket):
        pass

    def take_down(error: Ticket) -> Any:
        return {"client": str(error.client), "why": error.__cause__}

    register_exception(
        Ticket, take_down, lambda held: Ticket(["again", held["client"], held["why"]])
    )
    error = Special(object)
    error.__cause__ = KeyError("why")
    error.add_note("hint")
    again = come_back(error)
    assert type(again) is Special
    assert again.client[:2] == ["again", "<class 'object'>"]  # type: ignore[index]
    assert again.client[2] is again.__cause__  # type: ignore[index]
    assert (again.__notes__, str(again)) == (["hint"], "refused")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("which", ["take_down", "rebuild", "nothing"])
def test_a_hook_that_fails_is_gone_without(which: str, caplog: pytest.LogCaptureFixture) -> None:
    def fails(value: Any) -> Any:
        if which == "nothing":
            return None
        raise OSError("no")

    register_exception(Ticket, *((fails, Ticket) if which == "take_down" else (str, fails)))
    again = come_back(Ticket("c"))
    assert (type(again), again.client, str(again)) == (Ticket, "c", "refused")  # type: ignore[attr-defined]
    assert "register_exception" in caplog.text


@pytest.mark.parametrize("wrong", [(int, str, str), (ValueError, 1, str), (Ticket("x"), str, str)])
def test_what_cannot_be_registered(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="register_exception takes"):
        register_exception(*wrong)


# -- in runs --


@pytest.mark.parametrize("kind", ["step", "tool"])
def test_a_run_that_handles_another_error_meanwhile(engine: CheckpointEngine, kind: str) -> None:
    """The context is the one that was there when the call failed, in every life."""
    run_id, seen = new_id(), []
    for _ in range(2):
        with engine.run_sync(run_id) as run:
            try:
                raise BufferError("around")
            except BufferError:
                with pytest.raises(RuntimeError) as caught:
                    getattr(run, kind)("a", chained)
            seen.append(caught.value)
    first, second = seen
    assert not differences(first, second)


def test_stop_iteration_comes_out_as_it_is(engine: CheckpointEngine) -> None:
    run_id = new_id()
    for _ in range(2):
        with engine.run_sync(run_id) as run, pytest.raises(StopIteration) as caught:
            run.step("next", next, iter(()))
        assert caught.value.__context__ is None


@pytest.mark.parametrize("options", [{}, {"timeout": 60.0}])
async def test_stop_iteration_with_an_event_loop(
    engine: CheckpointEngine, options: dict[str, Any]
) -> None:
    """It is what Python makes of it in any coroutine; above all, it does not hang."""
    run_id = new_id()
    for _ in range(2):
        async with engine.run(run_id) as run:
            with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
                await run.using(**options).step("next", next, iter(()))
            assert type(caught.value.__cause__) is StopIteration


async def test_programs_that_look_at_their_errors(engine: CheckpointEngine, tmp_path: Any) -> None:
    """What a program makes of an error is an argument of its next call: it must be the same."""
    run_id, texts = new_id(), []

    def look(text: str) -> str:
        texts.append(text)
        return text

    results = []
    for _ in range(2):
        async with engine.run(run_id) as run:
            for provoke in (renamed, slotted, wordy, grouped, lost):
                try:
                    await run.tool("tool", provoke)
                except Exception as error:
                    said = f"{type(error).__name__}: {error} {error!r} {error.__cause__!r}"
                    results.append(
                        await run.step("look", look, re.sub(" at 0x[0-9a-f]+", "", said))
                    )
    assert results[:5] == results[5:]
    assert len(texts) == 5


# -- usual client libraries --


def _clients() -> dict[str, tuple[str, Callable[[Any, str], Any]]]:
    async def aio(library: Any, url: str) -> None:
        async with library.ClientSession(raise_for_status=True) as session, session.get(url) as got:
            await got.text()

    async def grpc_aio(library: Any) -> None:
        async with library.aio.insecure_channel("127.0.0.1:1") as channel:
            await channel.unary_unary("/a/b")(b"x", timeout=5)

    def grpc_call(library: Any, kind: str) -> None:
        with library.insecure_channel("127.0.0.1:1") as channel:
            list(getattr(channel, kind)("/a/b")(b"x", timeout=5))

    def validate(library: Any, data: Any) -> None:
        def check(value: str) -> str:
            assert value != "asserted", "not that one"
            if value == "valued":
                raise ValueError("not this one")
            return value

        checked = library.AfterValidator(check)
        kind = library.create_model("M", a=(int, ...), b=(Annotated[str, checked], ...))
        kind.model_validate(data)

    def boto(session: Any, url: str, method: str, **options: Any) -> None:
        client = session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            endpoint_url=url,
            config=sys.modules["botocore.config"].Config(retries={"max_attempts": 0}),
        )
        getattr(client, method)(**options)

    def sql(library: Any, text: str) -> None:
        with library.create_engine("sqlite://").connect() as connection:
            connection.execute(library.text(text), {"a": 1})

    down = "http://127.0.0.1:1"
    return {
        "httpx status": ("httpx", lambda m, url: m.get(f"{url}/404").raise_for_status()),
        "httpx connect": ("httpx", lambda m, _: m.get(down)),
        "openai status": (
            "openai",
            lambda m, url: m.OpenAI(
                api_key="k", base_url=url, max_retries=0
            ).chat.completions.create(model="m", messages=[]),
        ),
        "openai connect": (
            "openai",
            lambda m, _: m.OpenAI(api_key="k", base_url=down, max_retries=0).models.list(),
        ),
        "anthropic status": (
            "anthropic",
            lambda m, url: m.Anthropic(api_key="k", base_url=url, max_retries=0).messages.create(
                model="m", max_tokens=1, messages=[]
            ),
        ),
        "anthropic connect": (
            "anthropic",
            lambda m, _: m.Anthropic(api_key="k", base_url=down, max_retries=0).models.list(),
        ),
        "pydantic": ("pydantic", lambda m, _: validate(m, {"a": "x", "b": 1})),
        "pydantic value": ("pydantic", lambda m, _: validate(m, {"a": object(), "b": "valued"})),
        "pydantic assert": ("pydantic", lambda m, _: validate(m, {"b": "asserted"})),
        "requests status": ("requests", lambda m, url: m.get(f"{url}/404").raise_for_status()),
        "requests json": ("requests", lambda m, url: m.get(f"{url}/text").json()),
        "aiohttp status": ("aiohttp", lambda m, url: asyncio.run(aio(m, f"{url}/404"))),
        "aiohttp connect": ("aiohttp", lambda m, _: asyncio.run(aio(m, down))),
        "grpc": ("grpc", lambda m, _: grpc_call(m, "unary_unary")),
        "grpc stream": ("grpc", lambda m, _: grpc_call(m, "unary_stream")),
        "grpc aio": ("grpc.aio", lambda m, _: asyncio.run(grpc_aio(sys.modules["grpc"]))),
        "botocore status": (
            "botocore.session",
            lambda m, url: boto(m, url, "get_object", Bucket="b", Key="k"),
        ),
        "botocore call": ("botocore.session", lambda m, url: boto(m, url, "get_object")),
        "sqlalchemy": ("sqlalchemy", lambda m, _: sql(m, "select * from nothing where a = :a")),
        "redis": ("redis", lambda m, _: m.Redis(port=1).ping()),
        "psycopg": ("psycopg", lambda m, _: m.connect("host=127.0.0.1 port=1")),
    }


CLIENTS = _clients()


@pytest.mark.parametrize("name", list(CLIENTS))
@pytest.mark.filterwarnings("ignore")
def test_usual_client_libraries(name: str, http_server: str) -> None:
    library, provoke = CLIENTS[name]
    module = pytest.importorskip(library)
    error = raised(lambda: provoke(module, http_server))
    assert type(error).__module__.split(".")[0] in (library.split(".")[0], "pydantic_core"), error
    node = recorded(error)
    again = rebuild(node)
    found = differences(error, again)
    assert not [each for each in found if "s3cret" not in each]
    assert type(again) is type(error)
    if library.split(".")[0] != "botocore":  # its response is a dict as any other
        assert not re.search("Bearer|s3cret", str(node.metadata[RAISED])), "a secret was recorded"
    response = getattr(error, "response", None)
    if response is not None and hasattr(response, "content"):
        assert again.response.content == response.content  # type: ignore[attr-defined]
        assert again.response.headers["Retry-After"] == "3"  # type: ignore[attr-defined]
        assert again.response.headers["X-RateLimit-Remaining-Tokens"] == "5"  # type: ignore[attr-defined]
    if library.startswith("grpc"):
        assert again.code() == error.code()  # type: ignore[attr-defined]
        assert again.details() == error.details()  # type: ignore[attr-defined]
    if library == "pydantic":
        assert str(again.errors()) == str(error.errors()) or "object at" in str(error.errors())  # type: ignore[attr-defined]


# -- what they talk to --


@pytest.fixture(scope="module")
def http_server() -> Iterator[str]:
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": "no"}' if self.path != "/text" else b"plain"
            status = 404 if "404" in self.path or "/b/" in self.path else 429
            self.send_response(200 if self.path == "/text" else status)
            for key, value in (
                ("Content-Length", str(len(body))),
                ("Retry-After", "3"),
                ("Content-Type", "application/json"),
                ("X-RateLimit-Remaining-Tokens", "5"),
                ("Set-Cookie", "session=s3cret"),
            ):
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with contextlib.closing(server.socket):
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
