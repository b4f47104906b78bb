"""The URL of a PostgreSQL database: what libpq gets, what may be shown, what must not be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from livingai.errors import ConfigurationError
from livingai.stores.shared.urls import redacted

DEFAULT_SCHEMA: Final = "livingai"


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A database and a schema in it."""

    #: libpq's URL, with credentials.
    conninfo: str = field(repr=False)
    schema: str
    #: The URL without credentials; the same for all users of one place.
    shown: str
    #: What no message may hold.
    secrets: tuple[str, ...] = field(repr=False)


def parse(url: str, schema: str | None) -> PostgresAddress:
    """The address that ``url`` names; ``schema`` goes before the URL's ``?schema=``.

    Raises:
        ConfigurationError: it is no URL of a PostgreSQL database. It does not repeat the URL.
    """
    if not isinstance(url, str) or url.partition("://")[0] not in ("postgresql", "postgres"):
        raise ConfigurationError(
            "PostgresStore needs a URL such as postgresql://user@host:5432/database"
        )
    redacted(url)  # raises where it is not clear what is secret
    base, _, query = url.partition("?")
    # To libpq a plus sign is no space, neither here nor in what it gets.
    parameters = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    named = next((value for name, value in parameters if name == "schema"), "")
    rest = [(name, value) for name, value in parameters if name != "schema"]
    conninfo = f"{base}?{urlencode(rest, safe='/', quote_via=quote)}" if rest else base
    schema = schema or named or DEFAULT_SCHEMA
    password = urlsplit(base).netloc.rpartition("@")[0].partition(":")[2]
    found = [password, unquote(password)]
    found += [value for name, value in rest if "password" in name]
    return PostgresAddress(conninfo, schema, _shown(conninfo, schema), tuple(filter(None, found)))


def _shown(conninfo: str, schema: str) -> str:
    shown = redacted(conninfo).replace("postgres://", "postgresql://", 1)
    base, _, query = shown.partition("?")
    place, slash, database = base.partition("://")[2].partition("/")
    place = place.removesuffix(":5432")  # the port that libpq takes anyway
    parts = [query] if query else []
    if schema != DEFAULT_SCHEMA:
        parts.append(f"schema={schema}")
    return f"postgresql://{place}{slash}{database}{'?' if parts else ''}{'&'.join(parts)}"
