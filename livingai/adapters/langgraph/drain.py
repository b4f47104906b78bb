"""SIGTERM drains graphs: what runs is finished, what follows is left to whoever goes on."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from livingai.errors import ConfigurationError

#: What a shell says of a process that SIGTERM has ended.
_TERMINATED: Final = 128 + signal.SIGTERM


class drain_on_sigterm:
    """While the block runs, SIGTERM lets its graphs end behind the superstep that they are in::

        with CheckpointEngine(store) as engine, drain_on_sigterm() as control:
            graph = builder.compile(checkpointer=LivingAISaver(engine))
            graph.invoke(question, config, control=control)

    The control is for ``invoke``, ``ainvoke``, ``stream`` and the rest, of any number of graphs at
    once. The superstep is finished and saved; then LangGraph raises ``GraphDrained``, and
    ``graph.invoke(None, config)`` goes on, in any process. What is invoked after the signal ends
    before its first step, in the same way.

    With the first SIGTERM the earlier handler is back, so a second one does what it did before:
    usually it kills.

    Args:
        exit_code: what the process exits with (``SystemExit``) once the block is left after a
            SIGTERM, by ``GraphDrained`` or because there was nothing more to do. None: the block
            raises ``GraphDrained``, or ends, and the program decides.
        reason: what ``GraphDrained`` says.

    Raises:
        ConfigurationError: this is not the main thread, which alone may handle signals; or a
            handler is there that is not Python's. Use a ``RunControl`` of your own there, and call
            its ``request_drain()``.
    """

    def __init__(self, *, exit_code: int | None = _TERMINATED, reason: str = "SIGTERM") -> None:
        self._exit_code = exit_code
        self._reason = reason
        self._control = RunControl()
        self._handler = _Handler(self._control, reason)

    def __enter__(self) -> RunControl:
        self._handler.install()
        return self._control

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handler.remove()
        over = error is None or isinstance(error, GraphDrained)
        if self._handler.has_come and over and self._exit_code is not None:
            raise SystemExit(self._exit_code) from error


class _Handler:
    """Drains at the first SIGTERM, and has the earlier handler take its place."""

    def __init__(self, control: RunControl, reason: str) -> None:
        self._control = control
        self._reason = reason
        self._earlier: Any = None
        self.has_come = False

    def install(self) -> None:
        """Take the earlier handler's place."""
        self._earlier = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or self._earlier is None:
            why = "is for the main thread" if self._earlier is not None else "finds a foreign one"
            raise ConfigurationError(
                f"drain_on_sigterm() handles a signal, and {why}: pass a RunControl of your own "
                "to the graph, and call its request_drain() where the signal is handled"
            )
        signal.signal(signal.SIGTERM, self)

    def remove(self) -> None:
        """Give the place back, unless another handler has taken it meanwhile."""
        now: Any = signal.getsignal(signal.SIGTERM)
        if now is self:
            signal.signal(signal.SIGTERM, self._earlier)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal has come."""
        self.has_come = True
        self._control.request_drain(self._reason)
        self.remove()
        if isinstance(self._earlier, _Handler):  # a block around this one
            self._earlier(number, frame)
