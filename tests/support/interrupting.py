"""What Ctrl-C does, at each step where it can come: an exception where the interpreter looks for
signals for the first, the second, ... time in a call, in whatever Python code that runs, the
standard library's too."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: The instructions at whose end CPython looks for signals (CHECK_EVAL_BREAKER in its ceval.c).
LOOKS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME"}


class Interrupted(BaseException):
    """Raised between two instructions."""


def interrupted_everywhere(make: Callable[[], Callable[[], Any]]) -> Iterator[int]:
    """Call ``make()`` and then what it returns, interrupted at its first step; then again, at its
    second one; and so on, until it ends before it is interrupted. Yields after each."""
    step = 0
    while _interrupted(make(), step):
        step += 1
        yield step


def _interrupted(call: Callable[[], Any], step: int) -> bool:
    left = step
    last: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = last.get(frame)
            last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            left -= before in LOOKS
            if left < 0:
                sys.settrace(None)
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False
