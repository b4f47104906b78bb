"""How objects that exceptions of common client libraries hold are recorded.

Classes are known by module and name, so that no library is imported; objects are made again with
the constructors that are named here, and only if the library is loaded.

Of a request the method, URL and headers are recorded, without those that carry secrets; of a
response the status, headers and body, if that had been read and is no larger than 64 KiB.
"""

from __future__ import annotations

from typing import Any, Final

from livingai.runs.exceptions.body import fits
from livingai.runs.exceptions.hooks import Hook
from livingai.runs.exceptions.standard import STANDARD, STANDARD_HOOKS, loaded, open_headers
from livingai.runs.exceptions.types import Name
from livingai.runs.exceptions.values import Adapter

# -- httpx --


def _httpx(module: str) -> dict[Name, Adapter]:
    def response_down(response: Any) -> dict[str, Any]:
        body = getattr(response, "_content", None)
        return {
            "status": response.status_code,
            "headers": open_headers(response.headers.multi_items()),
            "body": body if fits(body) else None,
            "request": getattr(response, "_request", None),
            "extensions": {key: each for key, each in response.extensions.items()
                           if key in ("http_version", "reason_phrase")},
            "elapsed": getattr(response, "_elapsed", None),
        }  # fmt: skip

    def response_up(held: dict[str, Any]) -> Any:
        library = loaded(module)
        read = held["body"] is not None
        # Without a body the response is one that was not read: looking at it raises.
        stream = library.ByteStream(held["body"]) if read else library.SyncByteStream()
        response = library.Response(
            held["status"], headers=held["headers"], stream=stream, request=held["request"],
            extensions=held["extensions"],
        )  # fmt: skip
        if read:
            response._content = held["body"]  # decoded as it is; the headers say how it came
            response.is_closed = response.is_stream_consumed = True
        if held["elapsed"] is not None:
            response.elapsed = held["elapsed"]
        return response

    def request_down(request: Any) -> list[Any]:
        headers = open_headers(request.headers.multi_items())
        return [request.method, str(request.url), headers]

    def request_up(held: list[Any]) -> Any:
        library = loaded(module)
        return library.Request(held[0], held[1], headers=held[2], stream=library.ByteStream(b""))

    return {
        (module, "Response"): Adapter(response_down, response_up),
        (module, "Request"): Adapter(request_down, request_up),
        (module, "Headers"): Adapter(lambda headers: open_headers(headers.multi_items()),
                                     lambda held: loaded(module).Headers(held)),
        (module, "URL"): Adapter(str, lambda held: loaded(module).URL(held)),
    }  # fmt: skip


# -- requests --


def _requests_response_down(response: Any) -> dict[str, Any]:
    body = response._content
    request = response.request
    return {
        "status": response.status_code, "headers": open_headers(response.headers.items()),
        "body": body if fits(body) else None, "url": response.url, "reason": response.reason,
        "encoding": response.encoding, "elapsed": response.elapsed, "request": request,
    }  # fmt: skip


def _requests_response_up(held: dict[str, Any]) -> Any:
    library = loaded("requests")
    response = library.Response()
    response.status_code, response.url = held["status"], held["url"]
    response.headers.update(held["headers"])
    response.reason, response.encoding = held["reason"], held["encoding"]
    response.elapsed, response.request = held["elapsed"], held["request"]
    response._content_consumed = True
    if held["body"] is not None:
        response._content = held["body"]
    return response


def _requests_request_up(held: list[Any]) -> Any:
    request = loaded("requests").PreparedRequest()
    request.method, request.url = held[0], held[1]
    request.headers = loaded("requests.structures").CaseInsensitiveDict(held[2])
    return request


_REQUESTS: Final[dict[Name, Adapter]] = {
    ("requests.models", "Response"): Adapter(_requests_response_down, _requests_response_up),
    ("requests.models", "PreparedRequest"): Adapter(
        lambda request: [
            request.method, request.url, open_headers((request.headers or {}).items())
        ],
        _requests_request_up,
    ),
    ("requests.structures", "CaseInsensitiveDict"): Adapter(
        lambda headers: open_headers(headers.items()),
        lambda held: loaded("requests.structures").CaseInsensitiveDict(held),
    ),
}  # fmt: skip


# -- aiohttp --


def _multidict(name: str) -> Adapter:
    def up(held: list[Any]) -> Any:
        library = loaded("multidict")
        made = getattr(library, name.removesuffix("Proxy"))(held)
        return getattr(library, name)(made) if name.endswith("Proxy") else made

    return Adapter(lambda headers: open_headers(headers.items()), up)


_AIOHTTP: Final[dict[Name, Adapter]] = {
    (module, name): _multidict(name)
    for module in ("multidict._multidict", "multidict._multidict_py")
    for name in ("CIMultiDictProxy", "CIMultiDict", "MultiDictProxy", "MultiDict")
} | {
    (module, "URL"): Adapter(str, lambda held: loaded("yarl").URL(held))
    for module in ("yarl", "yarl._url")
}


# -- gRPC --


def _rpc_state_up(held: list[Any]) -> Any:
    initial, trailing, code, details, debug = held
    state = loaded("grpc._channel")._RPCState((), initial, trailing, code, details)
    state.debug_error_string = debug
    return state


_GRPC: Final[dict[Name, Adapter]] = {
    ("grpc._channel", "_RPCState"): Adapter(
        lambda state: [state.initial_metadata, state.trailing_metadata, state.code, state.details,
                       state.debug_error_string],
        _rpc_state_up,
    ),
    ("grpc.aio._metadata", "Metadata"): Adapter(
        lambda metadata: [tuple(pair) for pair in metadata],
        lambda held: loaded("grpc.aio").Metadata(*held),
    ),
}  # fmt: skip


# -- pydantic 1 --


def _error_wrapper(module: str) -> Adapter:
    return Adapter(lambda wrapper: [wrapper.exc, wrapper.loc_tuple()],
                   lambda held: loaded(module).ErrorWrapper(*held))  # fmt: skip


_PYDANTIC_1: Final[dict[Name, Adapter]] = {
    (module, "ErrorWrapper"): _error_wrapper(module)
    for module in ("pydantic.v1.error_wrappers", "pydantic.error_wrappers")
}

ADAPTERS: Final[dict[Name, Adapter]] = {
    **STANDARD, **_httpx("httpx"), **_httpx("httpx2"), **_REQUESTS, **_AIOHTTP, **_GRPC,
    **_PYDANTIC_1,
}  # fmt: skip


# -- exceptions that are made by their own constructors alone --


def _validation_error_down(error: Any) -> list[Any]:
    keys = ("type", "loc", "msg", "input", "ctx")
    lines = [[line.get(key) for key in keys] for line in error.errors(include_url=False)]
    _, _, input_type, hide_input = error.__reduce__()[1]
    return [error.title, lines, input_type, hide_input]


def _validation_error_up(held: list[Any]) -> BaseException:
    title, lines, input_type, hide_input = held
    core = loaded("pydantic_core")
    known = {each["type"] for each in loaded("pydantic_core._pydantic_core").list_all_errors()}
    details = []
    for kind, loc, message, given, context in lines:
        what = kind if kind in known else core.PydanticCustomError(kind, message, context)
        detail = {"type": what, "loc": tuple(loc), "input": given}
        details.append(detail if context is None else {**detail, "ctx": context})
    error: BaseException = core.ValidationError.from_exception_data(
        title, details, input_type, hide_input
    )
    return error


HOOKS: Final[dict[Name, Hook]] = {
    **STANDARD_HOOKS,
    ("pydantic_core._pydantic_core", "ValidationError"): Hook(
        _validation_error_down, _validation_error_up
    ),
}
