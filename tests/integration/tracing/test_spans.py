"""Spans of saves, with the SDK of OpenTelemetry and an exporter that keeps them in memory."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from livingai import (
    CheckpointEngine,
    ErrorInfo,
    ExecutionNode,
    NodeType,
    RecoveryEngine,
    ReplayMode,
    ReplaySession,
    Resolution,
    Status,
    SyncRun,
    current_run,
    serial,
)
from livingai.errors import ConfigurationError, JournalClosedError
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.record import read_record
from livingai.queue.segments import Segments
from tests.support import acts
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import until

_EXPORTER = InMemorySpanExporter()


@functools.cache
def the_provider() -> TracerProvider:
    """The program's SDK, which can be set once in a process: a second one is refused, and its
    end would end the exporter. Fixtures of a module may be set up twice in a process."""
    found = TracerProvider(shutdown_on_exit=False)
    found.add_span_processor(SimpleSpanProcessor(_EXPORTER))
    trace.set_tracer_provider(found)
    return found


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    # tests/frameworks turns telemetry off, in every process that only collects its tests.
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    return the_provider()


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    _EXPORTER.clear()
    yield _EXPORTER
    _EXPORTER.clear()


def finished(spans: InMemorySpanExporter, name: str, count: int = 1) -> list[ReadableSpan]:
    """So many spans of a name, once they are there."""

    def look() -> list[ReadableSpan]:
        found = [span for span in spans.get_finished_spans() if span.name == name]
        return found if len(found) >= count else []

    found = until(look, what=f"{count} spans {name!r}")
    assert len(found) == count
    return found


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def extension(engine: CheckpointEngine, position: int) -> object:
    """The extension section of a record in the engine's own journal."""
    journal = engine.open_handle().open_journal()
    with closing(Segments(journal.directory)) as segments:
        segment = segments.get(segment_of(position))
        assert segment is not None
        raw = read_record(segment.view, offset_of(position)).ext
    return serial.unpack(raw) if raw else {}


def test_a_save_its_journal_and_its_commit(state_dir: Place, spans: InMemorySpanExporter) -> None:
    with state_dir.engine(traces="saves") as engine:
        with trace.get_tracer("program").start_as_current_span("agent") as agent:
            receipt = engine.save_sync(ExecutionNode("run-1"), b"state", tags={"mine": 1})
        outcome = receipt.result(patience(30))
        (save,), (append,), (commit,) = (
            finished(spans, name) for name in ("save prompt", "append journal", "commit sqlite")
        )
        assert save.context is not None
        trace_id = agent.get_span_context().trace_id
        assert {span.context.trace_id for span in (save, append, commit) if span.context} == {
            trace_id
        }
        assert parent_of(save) == agent.get_span_context().span_id
        assert parent_of(append) == parent_of(commit) == save.context.span_id
        assert (save.kind, commit.kind) == (SpanKind.PRODUCER, SpanKind.CLIENT)
        assert save.start_time is not None
        assert append.start_time is not None
        assert append.end_time == save.end_time == commit.start_time
        assert save.start_time <= append.start_time
        assert commit.end_time is not None
        assert commit.start_time is not None
        assert commit.end_time - commit.start_time == int(outcome.latency_ms * 1e6)
        assert commit.attributes == {
            "db.system.name": "sqlite", "db.operation.name": "commit", "livingai.outcome": "met",
            "livingai.execution.id": "run-1",
        } or outcome.status == "late"  # fmt: skip
        parent = f"00-{trace_id:032x}-{save.context.span_id:016x}-{save.context.trace_flags:02x}"
        assert extension(engine, receipt.position) == {"mine": 1, "_trace": parent}


async def test_a_save_of_a_coroutine(state_dir: Place, spans: InMemorySpanExporter) -> None:
    async with state_dir.engine(traces="saves") as engine:
        with trace.get_tracer("program").start_as_current_span("agent") as agent:
            receipts = [await engine.save(ExecutionNode("run-1"), step) for step in range(5)]
        for receipt in receipts:
            await receipt
        saves = finished(spans, "save prompt", 5)
        assert {parent_of(save) for save in saves} == {agent.get_span_context().span_id}
        commits = finished(spans, "commit sqlite", 5)
        assert {parent_of(each) for each in commits} == {
            save.context.span_id for save in saves if save.context
        }


def test_a_fenced_save_is_an_error(state_dir: Place, spans: InMemorySpanExporter) -> None:
    with state_dir.engine(traces="saves") as engine:
        engine.save_sync(ExecutionNode("run-1"), b"1").result(patience(30))
        with state_dir.store() as store:  # a process of another machine
            store.claim("run-1", f"{1:016x}-{1 << 61:016x}")
        outcome = engine.save_sync(ExecutionNode("run-1"), b"2").result(patience(30))
        assert outcome.status == "fenced"
        commit = finished(spans, "commit sqlite", 2)[1]
        assert commit.status.status_code is StatusCode.ERROR
        assert commit.attributes is not None
        assert commit.attributes["error.type"] == "fenced"


def test_what_is_refused(state_dir: Place, spans: InMemorySpanExporter) -> None:
    engine = state_dir.engine(traces="saves")
    engine.save_sync(ExecutionNode("run-1"), b"1").result(patience(30))
    engine.close_sync()
    with pytest.raises(JournalClosedError):
        engine.save_sync(ExecutionNode("run-1"), b"2")
    save = finished(spans, "save prompt", 2)[1]
    assert save.attributes is not None
    assert save.attributes["error.type"] == "JournalClosedError"
    assert save.status.status_code is StatusCode.ERROR


def test_prompts_and_tools(state_dir: Place, spans: InMemorySpanExporter) -> None:
    now = time.time()
    prompt = ExecutionNode(
        "run-1", NodeType.PROMPT, Status.SUCCESS, input="secret", output="secret",
        latency_ms=250.0, completed_at=now, cost_tokens=30,
        metadata={"model": "m-1", "provider": "p", "input_tokens": 10, "output_tokens": 20},
    )  # fmt: skip
    tool = ExecutionNode(
        "run-1", NodeType.TOOL, Status.RUNNING, metadata={"name": "charge", "tool_call_id": "c1"}
    )
    with state_dir.engine(traces="nodes") as engine:
        engine.save_sync(prompt)
        engine.save_sync(prompt)  # again: nothing was done
        engine.save_sync(tool)
        tool.status, tool.completed_at = Status.FAILED, now
        tool.error = ErrorInfo("TimeoutError", "secret")
        engine.save_sync(tool)
    (chat,), (call,) = finished(spans, "chat m-1"), finished(spans, "execute_tool charge")
    assert chat.attributes == {
        "gen_ai.operation.name": "chat", "gen_ai.conversation.id": "run-1",
        "gen_ai.request.model": "m-1", "gen_ai.provider.name": "p",
        "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 20,
        "livingai.node.id": prompt.id,
    }  # fmt: skip
    assert chat.start_time is not None
    assert chat.end_time == int(now * 1e9)
    assert chat.end_time - chat.start_time == 250_000_000
    assert call.attributes is not None
    assert call.attributes["gen_ai.tool.call.id"] == "c1"
    assert call.attributes["error.type"] == "TimeoutError"
    assert "secret" not in "".join(span.to_json() for span in spans.get_finished_spans())


def test_a_run_reports_its_tool_once_and_its_replays_never(
    state_dir: Place, spans: InMemorySpanExporter
) -> None:
    def program() -> None:
        run = current_run()
        assert isinstance(run, SyncRun)
        run.step("look", abs, -1)
        run.tool("charge", abs, -2)

    with state_dir.engine(traces="nodes") as engine:
        for _ in range(2):  # the second time it is resumed, and all is served
            with engine.run_sync("run-1"):
                program()
            finished(spans, "execute_tool charge")
        for mode in (ReplayMode.MOCK_TOOLS, ReplayMode.FULL):
            replay = ReplaySession(engine, "run-1")
            assert replay.run_sync(program, mode=mode, allow_side_effects=True).same
        engine.flush_sync()
        finished(spans, "execute_tool charge")


def test_what_a_person_has_decided_was_not_executed(
    state_dir: Place, spans: InMemorySpanExporter
) -> None:
    begun = {"type": "tool", "status": "running", "metadata": {"name": "charge"}}
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0, size=None, node=begun)
    agent.settled(1)
    agent.kill()
    with state_dir.engine(traces="nodes") as engine:
        resolved = RecoveryEngine(engine).recover_sync(
            "run-1", resolver=lambda _: Resolution.done({"ticket": 1})
        )
        assert resolved.outputs
        engine.flush_sync()
    assert not [s for s in spans.get_finished_spans() if s.name.startswith("execute_tool")]


def test_the_api_alone_keeps_the_context_of_the_caller(state_dir: Place) -> None:
    code = """
import os, sys
from opentelemetry import trace
from livingai import CheckpointEngine, ExecutionNode, open_store
caller = trace.SpanContext(0xabc, 0xdef, True, trace.TraceFlags(1))
with CheckpointEngine(open_store(sys.argv[1]), traces="saves", idle_s=0.2) as engine:
    plain = engine.save_sync(ExecutionNode("run-1"), b"1")
    with trace.use_span(trace.NonRecordingSpan(caller)):
        inside = engine.save_sync(ExecutionNode("run-1"), b"2")
    inside.result(30)
    journal = engine.open_handle().open_journal()
    segment = next(name for name in os.listdir(journal.directory) if name.endswith(".seg"))
    written = open(os.path.join(journal.directory, segment), "rb").read()
    print(written.count(b"_trace"), b"00-%032x-%016x-01" % (0xabc, 0xdef) in written)
"""
    assert run(code, str(state_dir.database)) == ["1 True"]


def test_nothing_is_imported_where_nothing_is_traced(state_dir: Place) -> None:
    code = """
import sys
from livingai import CheckpointEngine, ExecutionNode, open_store
with CheckpointEngine(open_store(sys.argv[1]), idle_s=0.2) as engine:
    engine.save_sync(ExecutionNode("run-1"), b"1").result(30)
print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus"))])
"""
    assert run(code, str(state_dir.database)) == ["[]"]


def run(code: str, *arguments: str) -> list[str]:
    """The lines that a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
        timeout=patience(60),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_setting_that_is_none(state_dir: Place) -> None:
    with pytest.raises(ConfigurationError, match="traces"):
        CheckpointEngine(state_dir.store(), traces="all")  # type: ignore[arg-type]
