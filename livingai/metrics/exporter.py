"""The exporter: the process of a service that hands out its metrics.

``python -m livingai.metrics.exporter``, started and started again by the supervisor
(:mod:`livingai.workers.companion`), with the service's settings as a JSON line on standard input;
when that ends, it ends: so does the supervisor then, however it died.

Why a process of its own: what scrapers do must not cost the dispatcher a turn, and the figures are
wanted most when the dispatcher hangs or dies again and again. All it needs it reads from files; it
asks the service three things (is the store up, how far is it behind, how many agents there are),
at most once a second, and says that it is down where no answer comes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys

from livingai.config import ServiceConfig
from livingai.errors import ConfigurationError
from livingai.service.logfile import log_to_stderr

_log = logging.getLogger("livingai.service")


def main() -> int:
    """Serve until standard input ends; the exit status: 2 where that cannot be done here."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a stopping service may still have to drain
    config = ServiceConfig.from_dict(json.loads(_line()))
    log_to_stderr("exporter", config.log_format)
    try:
        from livingai.metrics.pages import Exporter  # noqa: PLC0415 - it needs prometheus_client
    except ConfigurationError as error:  # trying again changes nothing
        _log.error("%s", error)
        return 2
    asyncio.run(Exporter(config).run())
    logging.shutdown()
    os._exit(0)  # a thread that waits for a disk or a service holds up nobody


def _line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (chunk := os.read(0, 65536)):
        line += chunk
    return line


if __name__ == "__main__":
    sys.exit(main())
