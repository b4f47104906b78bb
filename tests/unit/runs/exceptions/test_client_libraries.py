"""Exceptions of widely used client libraries come back."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from livingai.runs.failures import RAISED, rebuild
from tests.support.exceptions import differences, recorded
from tests.support.raising import raised


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
        "redis": ("redis", lambda m, _: m.Redis(port=1, retry=None).ping()),
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
