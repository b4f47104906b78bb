"""What an exporter does once it has its settings: it serves the pages and writes the file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from livingai.config import ServiceConfig, parse_address
from livingai.errors import LivingAIError
from livingai.inspection.directories import directory_view
from livingai.metrics.exposition import expose, expose_plainly
from livingai.metrics.gatherer import Check, Gatherer
from livingai.metrics.server import MetricsServer, Page
from livingai.metrics.textfile import write_textfile
from livingai.service.report import write_hint

_log = logging.getLogger("livingai.service")
#: Seconds between two writes of the file, and between two attempts to listen.
_FILE_EVERY_S: Final = 15.0
_AGAIN_S: Final = 1.0
#: In the state directory, while metrics are served: where.
ADDRESS: Final = "service.metrics"


class Exporter:
    """Serves the pages and writes the file."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        view = directory_view(config.directory, config.spec().build().url)
        self._gatherer = Gatherer(view, config.journal_bytes)
        self._said = ""
        self._server = MetricsServer({
            "/metrics": self._metrics,
            "/livez": lambda _: _checks(self._gatherer.alive),
            "/readyz": lambda _: _checks(self._gatherer.ready),
        })  # fmt: skip

    async def run(self) -> None:
        """Until standard input ends."""
        tasks = [asyncio.create_task(self._gatherer.watch_doubts())]
        if self._config.metrics:
            tasks.append(asyncio.create_task(self._listen()))
        if self._config.metrics_file:
            tasks.append(asyncio.create_task(self._write_files()))
        ended = asyncio.create_task(_end_of_input())
        await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        self._server.close()
        with contextlib.suppress(OSError):
            os.unlink(self._address_file)
        for task in tasks:
            if task.done() and not task.cancelled() and task is not ended:
                task.result()  # it has failed: the supervisor starts us again
            task.cancel()
        if self._config.metrics_file:
            await self._write_file(last=True)  # the service is down

    @property
    def _address_file(self) -> str:
        return os.path.join(self._config.directory, ADDRESS)

    async def _listen(self) -> None:
        host, port = parse_address(self._config.metrics, "metrics")
        while True:
            try:
                port = await self._server.start(host, port)
            except OSError as error:  # another program, or the service before us, has it
                self._say(f"metrics cannot be served on {self._config.metrics}: {error}")
                await asyncio.sleep(_AGAIN_S)
                continue
            break
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        _log.info("metrics are served on http://%s/metrics", shown)
        write_hint(self._config.directory, ADDRESS, {"address": shown, "pid": os.getpid()})
        await asyncio.Event().wait()

    def _say(self, text: str) -> None:
        if text != self._said:  # once, not for each attempt
            self._said = text
            _log.error("%s", text)

    async def _write_files(self) -> None:
        while True:
            await self._write_file()
            await asyncio.sleep(_FILE_EVERY_S)

    async def _write_file(self, *, last: bool = False) -> None:
        gatherer = self._gatherer
        try:
            figures = await (gatherer.last_figures() if last else gatherer.figures())
            write_textfile(self._config.metrics_file, expose_plainly(figures))
        except (OSError, LivingAIError) as error:  # TimeoutError is an OSError
            self._say(f"{self._config.metrics_file} cannot be written: {error}")

    async def _metrics(self, accept: str) -> Page:
        try:
            body, content_type = expose(await self._gatherer.figures(), accept)
        except (OSError, LivingAIError) as error:
            self._say(f"metrics cannot be gathered: {error}")
            return Page(HTTPStatus.SERVICE_UNAVAILABLE, b"the state directory cannot be read\n")
        return Page(HTTPStatus.OK, body, content_type)


async def _checks(look: Callable[[], Awaitable[list[Check]]]) -> Page:
    """The page of some checks: a line for each, and 503 if one is not well."""
    try:
        found = await look()
    except (OSError, LivingAIError) as error:
        found = [Check("state directory", f"cannot be read now ({type(error).__name__})")]
    lines = "".join(f"{check.name}: {check.trouble or 'ok'}\n" for check in found)
    well = not any(check.trouble for check in found)
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(status, lines.encode(errors="replace"))


async def _end_of_input() -> None:
    loop = asyncio.get_running_loop()
    reader: Any = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass
