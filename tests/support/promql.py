"""PromQL, as far as a test needs it: which series an expression asks for, by which labels, whether
over a range, and that it is well formed (brackets, operators, selectors, durations).

After the grammar on prometheus.io/docs/prometheus/latest/querying; without ``@``, subqueries and
set matching.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"\s*(?:(?P<duration>\[\w+\])|(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<name>[a-zA-Z_:][\w:]*)"
    r"|(?P<string>\"[^\"]*\")|(?P<op>==|!=|>=|<=|=~|!~|[-+*/%^<>=])|(?P<mark>[(){},]))"
)
_AGGREGATES = {"sum", "min", "max", "avg", "count"}
_FUNCTIONS = {
    "rate", "increase", "histogram_quantile", "time", "absent", "clamp_min", "max_over_time",
    "vector", "changes", "delta",
}  # fmt: skip
_WORDS = {"and", "or", "unless"}


class PromQLError(ValueError):
    """It is no expression that this knows."""


class Selector(NamedTuple):
    """A series that is asked for: its name, the labels that are compared, whether over a range."""

    name: str
    labels: frozenset[str]
    ranged: bool


class Expression:
    """An expression, parsed."""

    def __init__(self, text: str) -> None:
        self.selectors: list[Selector] = []
        #: Labels that it groups by.
        self.grouped: set[str] = set()
        self._tokens = _tokens(text)
        self._binary()
        if self._tokens:
            raise PromQLError(f"what is {self._tokens[0][1]!r}?")

    def _peek(self) -> str:
        return self._tokens[0][1] if self._tokens else ""

    def _take(self, kind: str = "", text: str = "") -> str:
        if not self._tokens:
            raise PromQLError("it ends too early")
        found_kind, found = self._tokens.pop(0)
        if (kind and kind != found_kind) or (text and text != found):
            raise PromQLError(f"{found!r} instead of {text or kind}")
        return found

    def _binary(self) -> None:
        self._unary()
        while self._peek() in _WORDS or (self._tokens and self._tokens[0][0] == "op"):
            if self._take() in ("=", "=~", "!~"):
                raise PromQLError("that compares labels")
            self._unary()

    def _unary(self) -> None:
        if self._peek() == "-":
            self._take()
        if self._peek() == "(":
            self._take()
            self._binary()
            self._take("mark", ")")
        elif self._tokens and self._tokens[0][0] == "number":
            self._take()
        else:
            self._named(self._take("name"))

    def _named(self, name: str) -> None:
        if name in _AGGREGATES:
            self._by()
            self._arguments()
            self._by()
        elif name in _FUNCTIONS:
            self._arguments()
        else:
            self._selector(name)

    def _by(self) -> None:
        if self._peek() in ("by", "without"):
            self._take()
            self._take("mark", "(")
            while self._peek() != ")":
                self.grouped.add(self._take("name"))
                if self._peek() == ",":
                    self._take()
            self._take()

    def _arguments(self) -> None:
        self._take("mark", "(")
        while self._peek() != ")":
            self._binary()
            if self._peek() == ",":
                self._take()
            elif self._peek() != ")":
                raise PromQLError(f"{self._peek()!r} in a call")
        self._take()

    def _selector(self, name: str) -> None:
        labels = set()
        if self._peek() == "{":
            self._take()
            while self._peek() != "}":
                labels.add(self._take("name"))
                if self._take("op") not in ("=", "!=", "=~", "!~"):
                    raise PromQLError("a label is compared with =, !=, =~ or !~")
                self._take("string")
                if self._peek() == ",":
                    self._take()
            self._take()
        ranged = bool(self._tokens) and self._tokens[0][0] == "duration"
        if ranged and not re.fullmatch(r"\[(\d+[smhdw]|\$__rate_interval)\]", self._take()):
            raise PromQLError("a range is as [5m]")
        self.selectors.append(Selector(name, frozenset(labels), ranged))


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.replace("$__rate_interval", "5m").strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise PromQLError(f"what is {text[at : at + 10]!r}?")
        assert match.lastgroup is not None
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found
