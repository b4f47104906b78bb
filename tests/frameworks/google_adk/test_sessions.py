"""What every session service owes ADK, and what this one owes besides."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("google.adk")

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions, EventCompaction
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

from livingai import CheckpointEngine, Durability
from livingai.adapters.google_adk import LivingAISessionService
from livingai.adapters.google_adk.entries import session_execution
from livingai.adapters.owned_log import OwnedLog
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode
from tests.support.framework_places import refuses_odd_places
from tests.support.place import Place

USER = "test_user"
#: Each test's own.
APP = ""
_numbers = itertools.count()


@pytest.fixture
async def engine(shared_place: Place) -> AsyncIterator[CheckpointEngine]:
    global APP  # noqa: PLW0603 - so that the tests of a module can share a store
    APP = f"app-{next(_numbers)}"
    shared_place.mark()
    async with shared_place.engine(directory=shared_place.directory.path) as engine:
        yield engine


@pytest.fixture
def service(engine: CheckpointEngine) -> LivingAISessionService:
    return LivingAISessionService(engine)


def said(text: str = "", **fields: Any) -> Event:
    """An event of the user's, with what it changes in ``state``."""
    state = fields.pop("state", None)
    if state is not None:
        fields["actions"] = EventActions(state_delta=state)
    if text:
        fields["content"] = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(**{"author": "user", "invocation_id": "i", **fields})


def summary() -> Event:
    """What ADK's compaction appends."""
    content = types.Content(role="model", parts=[types.Part(text="in short")])
    compaction = EventCompaction(start_timestamp=1.0, end_timestamp=2.0, compacted_content=content)
    return Event(author="user", actions=EventActions(compaction=compaction))


async def create(
    service: LivingAISessionService, session_id: str | None = None, **more: Any
) -> Session:
    return await service.create_session(
        **{"app_name": APP, "user_id": USER, "session_id": session_id, **more}
    )


async def get(service: LivingAISessionService, session_id: str, **more: Any) -> Session | None:
    return await service.get_session(
        **{"app_name": APP, "user_id": USER, "session_id": session_id, **more}
    )


async def got(service: LivingAISessionService, session_id: str, **more: Any) -> Session:
    session = await get(service, session_id, **more)
    assert session is not None
    return session


async def listed(service: LivingAISessionService, **more: Any) -> list[Session]:
    answer = await service.list_sessions(**{"app_name": APP, **more})
    return list(answer.sessions)


# -- creating, reading, deleting --


async def test_a_session_is_created_read_and_deleted(service: LivingAISessionService) -> None:
    assert await get(service, "123") is None
    session = await create(service, state={"key": "value"})
    assert (session.app_name, session.user_id, session.state) == (APP, USER, {"key": "value"})
    assert session.id
    assert time.time() - 60 < session.last_update_time <= time.time()
    assert await get(service, session.id) == session
    await service.delete_session(app_name=APP, user_id=USER, session_id=session.id)
    assert await get(service, session.id) is None
    assert await listed(service) == []
    await service.delete_session(app_name=APP, user_id=USER, session_id=session.id)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, said())


async def test_an_id_is_taken_once_whatever_spaces_are_around_it(
    service: LivingAISessionService,
) -> None:
    created = await create(service, "order-42\n", state={"cart": "book"})
    assert created.id == "order-42"
    for same in ("order-42", "  order-42 "):
        with pytest.raises(AlreadyExistsError, match="order-42"):
            await create(service, same, state={"cart": "clobbered"})
    assert (await got(service, " order-42\t")).state == {"cart": "book"}
    await service.delete_session(app_name=APP, user_id=USER, session_id="order-42\n")
    assert await get(service, "order-42") is None
    blank = await create(service, "   ")
    assert blank.id.strip() == blank.id != ""


async def test_a_session_that_is_created_again_begins_anew(service: LivingAISessionService) -> None:
    old = await create(service, "s", state={"old": 1})
    await service.append_event(old, said("old", state={"more": 2}))
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    new = await create(service, "s")
    assert await got(service, "s") == new
    assert (new.state, new.events) == ({}, [])
    with pytest.raises(ValueError, match="modified in storage"):
        await service.append_event(old, said("late"))


async def test_sessions_belong_to_app_and_user(service: LivingAISessionService) -> None:
    one = await create(service, "s", user_id="u1")
    await service.append_event(one, said("of u1"))
    await create(service, "s", user_id="u2")
    await create(service, "s", user_id="")
    assert (await got(service, "s", user_id="u2")).events == []
    assert {each.user_id for each in await listed(service)} == {"u1", "u2", ""}
    assert [each.user_id for each in await listed(service, user_id="")] == [""]
    assert await listed(service, app_name="app") == []
    assert await listed(service, user_id="u") == []


@pytest.mark.parametrize("name", ["a/b%c", "\0", "ünï 😀", "x" * 5000, "\ud800", "..", "a:b"])
async def test_any_text_is_a_name(service: LivingAISessionService, name: str) -> None:
    await create(service, name, app_name=name, user_id=name, state={"app:k": 1, "user:k": 2})
    await create(service, f"{name}+", app_name=f"{name}+", user_id=name)
    session = await got(service, name, app_name=name, user_id=name)
    assert (session.app_name, session.user_id, session.id) == (name, name, name)
    assert session.state == {"app:k": 1, "user:k": 2}
    assert [each.id for each in await listed(service, app_name=name)] == [name]


async def test_the_list_is_oldest_update_first(service: LivingAISessionService) -> None:
    for name in "abc":
        await create(service, name, state={"is": name, "app:all": name})
    await service.append_event(await got(service, "a"), said("hello", state={"more": 1}))
    sessions = await listed(service, user_id=USER)
    assert [each.id for each in sessions] == ["b", "c", "a"]
    assert [each.events for each in sessions] == [[], [], []]
    assert sessions[2].state == {"is": "a", "more": 1, "app:all": "c"}


# -- state --


async def test_state_has_four_scopes(service: LivingAISessionService) -> None:
    first = await create(
        service, "s1", state={"app:a": 1, "user:u": 1, "own": 1, "temp:t": 1, "flag": False}
    )
    assert first.state == {"app:a": 1, "user:u": 1, "own": 1, "flag": False}
    event = said(state={"app:b": {"x": 1}, "user:v": None, "mine": [1], "temp:now": "here"})
    assert await service.append_event(first, event) is event
    assert first.state["temp:now"] == "here"
    assert "temp:now" not in event.actions.state_delta
    shared = {"app:a": 1, "app:b": {"x": 1}}
    assert (await create(service, "s2")).state == {**shared, "user:u": 1, "user:v": None}
    assert (await create(service, "s3", user_id="other")).state == shared
    assert (await create(service, "s4", app_name=f"{APP}-other")).state == {}
    again = await got(service, "s1")
    own = {"own": 1, "mine": [1], "flag": False}
    assert again.state == {**shared, **own, "user:u": 1, "user:v": None}
    assert again.events[0].actions.state_delta.keys() == {"app:b", "user:v", "mine"}
    assert again.state["flag"] is False
    await service.append_event(again, said(state={"app:b": {"y": 2}, "own": None}))
    assert (await got(service, "s1")).state["own"] is None
    assert (await got(service, "s2")).state["app:b"] == {"y": 2}, "replaced, not merged"


async def test_user_state_can_be_read_without_a_session(service: LivingAISessionService) -> None:
    assert await service.get_user_state(app_name=APP, user_id="u") == {}
    session = await create(service, "s", user_id="u")
    for number in range(3):
        await service.append_event(session, said(state={"user:n": number, "user:p": {"a": 1}}))
    state = await service.get_user_state(app_name=APP, user_id="u")
    assert state == {"n": 2, "p": {"a": 1}}
    state["p"]["a"] = "changed"
    assert (await service.get_user_state(app_name=APP, user_id="u"))["p"] == {"a": 1}
    assert await service.get_user_state(app_name=APP, user_id="v") == {}
    assert await service.get_user_state(app_name=f"{APP}-other", user_id="u") == {}


async def test_what_is_returned_is_the_callers_to_change(service: LivingAISessionService) -> None:
    session = await create(service, "s", state={"list": [1], "app:list": [1]})
    session.state["list"].append(2)
    session.state["app:list"].append(2)
    again = await got(service, "s")
    assert again.state == {"list": [1], "app:list": [1]}
    again.state["list"].append(3)
    await service.append_event(again, said(state={"more": 1}))
    assert (await got(service, "s")).state["list"] == [1]


async def test_values_that_json_lacks_cost_no_event(service: LivingAISessionService) -> None:
    session = await create(service, "s", state={"made": len})
    event = said(state={"callback": lambda: 1, "bytes": b"\xff", "ok": 2, "big": 1 << 80})
    await service.append_event(session, event)
    again = await got(service, "s")
    assert (again.state["ok"], again.state["big"]) == (2, 1 << 80)
    assert isinstance(again.state["callback"], str)
    assert isinstance(again.state["made"], str)
    assert len(again.events) == 1


async def test_many_changes_of_shared_state_are_summed_up(
    engine: CheckpointEngine, service: LivingAISessionService
) -> None:
    session = await create(service, "s")
    for number in range(150):
        await service.append_event(session, said(state={"app:n": number, f"app:{number}": number}))
        if number % 10 == 0:
            await service.get_user_state(app_name=APP, user_id=USER)
            await got(service, "s", config=GetSessionConfig(num_recent_events=0))
    expected = {"app:n": 149, **{f"app:{number}": number for number in range(150)}}
    assert (await got(service, "s")).state == expected
    assert (await got(LivingAISessionService(engine), "s")).state == expected
    nodes = await engine.nodes(f"google-adk:app/{APP}")
    sums = [node for node in nodes if node.metadata["kind"] == "sum"]
    assert len(nodes) - len(sums) == 150
    assert len(sums) == 2


# -- events --


async def test_an_event_comes_back_as_it_was(service: LivingAISessionService) -> None:
    session = await create(service)
    content = types.Content(
        role="user",
        parts=[
            types.Part.from_bytes(data=b"test_image_data", mime_type="image/png"),
            types.Part(text='nul \0, quote ", emoji 😀'),
        ],
    )
    event = Event(
        invocation_id="invocation", author="user", content=content, turn_complete=True,
        partial=False, long_running_tool_ids={"tool1", "tool2"}, error_code="code",
        error_message="message", interrupted=True, branch="a.b", timestamp=1700000000.123,
        actions=EventActions(
            artifact_delta={"file": 0}, transfer_to_agent="agent", escalate=True,
            requested_tool_confirmations={
                "call_1": ToolConfirmation(hint="sure?", confirmed=False, payload={"a": ["b"]})
            },
        ),
        grounding_metadata=types.GroundingMetadata(
            web_search_queries=["query"],
            search_entry_point=types.SearchEntryPoint(sdk_blob=b"test_sdk_blob"),
        ),
        usage_metadata=types.GenerateContentResponseUsageMetadata(
            prompt_token_count=1, candidates_token_count=1, total_token_count=2
        ),
        citation_metadata=types.CitationMetadata(),
        custom_metadata={"custom_key": "custom_value"},
        input_transcription=types.Transcription(text="in", finished=True),
        output_transcription=types.Transcription(text="out", finished=True),
    )  # fmt: skip
    await service.append_event(session, event)
    assert session.events[0].content == content
    assert await get(service, session.id) == session


async def test_the_time_of_a_session_is_that_of_its_last_event(
    service: LivingAISessionService,
) -> None:
    session = await create(service)
    for seconds in (10.5, -3.25):
        at = time.time() + seconds
        await service.append_event(session, said(timestamp=at))
        assert session.last_update_time == at
        assert (await got(service, session.id)).last_update_time == at


async def test_partial_events_are_ignored(service: LivingAISessionService) -> None:
    session = await create(service)
    event = said("a", partial=True, state={"k": 1})
    assert await service.append_event(session, event) is event
    assert session.events == []
    assert await get(service, session.id) == session


async def test_events_stay_in_the_order_of_their_appends(service: LivingAISessionService) -> None:
    session = await create(service)
    times = [1730613600.0, 100.0, 100.0, 1730615400.0, 50.0]
    for number, at in enumerate(times):
        await service.append_event(session, said(id=f"e{9 - number}", timestamp=at))
    assert [each.timestamp for each in (await got(service, session.id)).events] == times


@pytest.mark.parametrize(
    ("recent", "after", "expected"),
    [
        (None, None, [1, 2, 3, 9, 4]), (0, None, []), (3, None, [3, 9, 4]),
        (99, None, [1, 2, 3, 9, 4]), (None, 0, [1, 2, 3, 9, 4]),
        (None, 4, [9, 4]), (None, 3.5, [9, 4]), (None, 9, [9]), (None, 50, []),
        (1, 4, [4]), (3, 4, [9, 4]), (1, 9, [9]), (0, 4, []),
    ],
)  # fmt: skip
async def test_only_what_is_asked_for_is_read(
    service: LivingAISessionService, recent: int | None, after: float | None, expected: list[int]
) -> None:
    session = await create(service, "s")
    for at in (1, 2, 3, 9, 4):  # clocks differ
        await service.append_event(session, said(timestamp=at, state={"last": at}))
    config = GetSessionConfig(num_recent_events=recent, after_timestamp=after)
    found = await got(service, "s", config=config)
    assert [each.timestamp for each in found.events] == expected
    assert found.state == {"last": 4}
    await service.append_event(found, said("it knows the end, though not all that is before"))
    assert len((await got(service, "s")).events) == 6


async def test_a_long_session_is_read_in_pages(service: LivingAISessionService) -> None:
    session = await create(service, "s")
    for number in range(2345):
        state = {"n": number} if number % 7 == 0 else None
        await service.append_event(session, said(timestamp=number, state=state))
    whole = await got(service, "s")
    assert [each.timestamp for each in whole.events] == list(range(2345))
    assert whole.state == {"n": 2338}
    late = await got(service, "s", config=GetSessionConfig(after_timestamp=2000))
    assert [each.timestamp for each in late.events] == list(range(2000, 2345))


async def test_an_event_that_is_delivered_again_counts_once(
    service: LivingAISessionService,
) -> None:
    session = await create(service, "s")
    before = session.model_copy(deep=True)
    event = said("once", state={"n": 1})
    for again in (event, event, event.model_copy(deep=True)):
        await service.append_event(session, again)
    await service.append_event(before, event.model_copy(deep=True))
    for each in (session, before, await got(service, "s")):
        assert [found.id for found in each.events] == [event.id]
    # The one that was not told the first time goes on as if it had been.
    await service.append_event(before, said("next"))
    shared = [said(id="same", invocation_id="a"), said(id="same", invocation_id="b")]
    for each in shared:
        await service.append_event(before, each)
    assert [each.invocation_id for each in (await got(service, "s")).events] == ["i", "i", "a", "b"]


# -- writers --


async def test_a_session_object_that_lacks_events_is_stale(service: LivingAISessionService) -> None:
    original = await create(service, "s")
    await service.append_event(original, said(invocation_id="1", state={"k1": 1}))
    updated = await got(service, "s")
    await service.append_event(updated, said(invocation_id="2", state={"k2": 2}))
    assert len(original.events) == 1
    with pytest.raises(ValueError, match="modified in storage") as raised:
        await service.append_event(original, said(invocation_id="3", state={"k3": 3}))
    assert type(raised.value).__name__ == "StaleSessionError"
    final = await got(service, "s")
    assert [each.invocation_id for each in final.events] == ["1", "2"]
    assert final.state == {"k1": 1, "k2": 2}


@pytest.mark.parametrize("durability", [None, Durability.FSYNC, Durability.STORE])
async def test_of_two_writers_with_the_same_view_one_is_stale(
    engine: CheckpointEngine, durability: Durability | None
) -> None:
    service = LivingAISessionService(engine, durability=durability)
    await create(service, "s")
    for number in range(8):
        latest = await got(service, "s")
        views = [latest.model_copy(deep=True) for _ in range(2)]
        results = await asyncio.gather(
            *(
                service.append_event(view, said(state={f"{number}-{which}": 1}))
                for which, view in enumerate(views)
            ),
            return_exceptions=True,
        )
        errors = [each for each in results if isinstance(each, Exception)]
        assert len(errors) == 1
        assert "modified in storage" in str(errors[0])
    final = await got(service, "s")
    assert len(final.events) == len(final.state) == 8


async def test_an_append_whose_end_is_not_known_counts(
    service: LivingAISessionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that is cancelled leaves the event in the session, or not; the next append looks."""
    session = await create(service, "s")
    await service.append_event(session, said(invocation_id="one"))
    owned, append_under = service._writer._owned, OwnedLog.append_under

    async def cancelled(*arguments: Any, **keywords: Any) -> bool:
        await append_under(owned, *arguments, **keywords)
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(owned, "append_under", cancelled)
        with pytest.raises(asyncio.CancelledError):
            await service.append_event(session, said(invocation_id="two"))
    with pytest.raises(ValueError, match="modified in storage"):
        await service.append_event(session, said(invocation_id="three"))
    again = await got(service, "s")
    assert [each.invocation_id for each in again.events] == ["one", "two"]
    await service.append_event(again, said(invocation_id="three"))
    found = await got(service, "s")
    assert [each.invocation_id for each in found.events] == ["one", "two", "three"]


async def test_tasks_that_share_a_session_object_are_not_stale(
    service: LivingAISessionService,
) -> None:
    session = await create(service, "s")
    events = [said(f"{number}", state={f"{number}": number}) for number in range(40)]
    await asyncio.gather(*(service.append_event(session, each) for each in events))
    again = await got(service, "s")
    assert again.state == {f"{number}": number for number in range(40)}
    assert [each.id for each in again.events] == [each.id for each in session.events]


async def test_event_loops_of_several_threads_share_a_service(
    service: LivingAISessionService,
) -> None:
    session = await create(service, "s")

    def work(name: int) -> None:
        async def append() -> None:
            await asyncio.gather(
                *(service.append_event(session, said(f"{name}")) for _ in range(10))
            )

        asyncio.run(append())

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len((await got(service, "s")).events) == 40


async def test_a_task_that_gives_up_waiting_lets_others_go_on(
    service: LivingAISessionService,
) -> None:
    session = await create(service, "s")
    tasks = [asyncio.ensure_future(service.append_event(session, said(f"{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await service.append_event(session, said("the end"))
    stored = [each.id for each in (await got(service, "s")).events]
    assert stored == [each.id for each in session.events]


async def test_a_summary_in_the_background_makes_nobody_stale(
    service: LivingAISessionService,
) -> None:
    """As ADK's compaction does: it holds the session for as long as a model takes."""
    running = await create(service, "s")
    await service.append_event(running, said("one"))
    background = await got(service, "s")
    await service.append_event(running, said("two"))
    await service.append_event(background, summary())
    await service.append_event(running, said("three"))
    with pytest.raises(ValueError, match="modified in storage"):
        await service.append_event(background, said("a summary does not make it know the rest"))
    found = await got(service, "s")
    texts = [each.content.parts[0].text if each.content else "-" for each in found.events]
    assert texts == ["one", "two", "-", "three"]
    await service.append_event(found, summary())
    await service.append_event(found, said("four"))
    assert len((await got(service, "s")).events) == 6


async def test_times_make_nobody_stale(service: LivingAISessionService) -> None:
    session = await create(service, "s")
    await service.append_event(session, said("one", timestamp=time.time() + 10))
    session.last_update_time -= 0.0001
    await service.append_event(session, said("two", timestamp=5))
    session.last_update_time = 0.0
    await service.append_event(session, said("three"))
    assert len((await got(service, "s")).events) == 3


async def test_a_session_made_by_hand_is_compared_by_its_events(
    service: LivingAISessionService,
) -> None:
    session = await create(service, "s")
    for text in ("one", "two"):
        session = Session.model_validate(session.model_dump())
        assert session._storage_update_marker is None
        await service.append_event(session, said(text))
    empty = Session(app_name=APP, user_id=USER, id="s")
    with pytest.raises(ValueError, match="modified in storage"):
        await service.append_event(empty, said("three"))
    with pytest.raises(SessionNotFoundError):
        await service.append_event(Session(app_name=APP, user_id=USER, id="none"), said())


async def test_of_many_that_create_one_session_one_succeeds(
    service: LivingAISessionService,
) -> None:
    results = await asyncio.gather(
        *(create(service, "s", state={"by": number}) for number in range(8)),
        return_exceptions=True,
    )
    created = [each for each in results if isinstance(each, Session)]
    assert len(created) == 1
    assert sum(isinstance(each, AlreadyExistsError) for each in results) == 7
    assert await got(service, "s") == created[0]


# -- durability, mistakes --


async def test_flush_waits_for_the_store(
    engine: CheckpointEngine, service: LivingAISessionService
) -> None:
    session = await create(service, "s", state={"app:a": 1})
    for number in range(20):
        await service.append_event(session, said(f"{number}"))
    await service.flush()
    assert engine.sla().pending == 0


async def test_an_append_can_wait_for_the_store(engine: CheckpointEngine) -> None:
    service = LivingAISessionService(engine, durability=Durability.STORE)
    session = await create(service, "s", state={"app:a": 1})
    await service.append_event(session, said("one", state={"user:k": 1}))
    assert engine.sla().pending == 0


async def test_arguments_that_cannot_work_are_refused(engine: CheckpointEngine) -> None:
    refuses_odd_places(LivingAISessionService, engine)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("000000000001-zz", {}),
        ("000000000001-zz", {"metadata": {"kind": "event", "born": 1}}),
        ("zz", {"metadata": {"kind": "event"}}),
    ],
)
async def test_what_another_program_wrote_is_refused(
    engine: CheckpointEngine, service: LivingAISessionService, name: str, fields: dict[str, Any]
) -> None:
    await create(service, "s")
    execution_id = session_execution(APP, USER, "s")
    await engine.save(ExecutionNode(execution_id, id=f"{execution_id}/{name}", **fields), {})
    with pytest.raises(CorruptRowError, match="another program"):
        await get(service, "s")
