"""Sessions that several processes share, and that outlive them."""

from __future__ import annotations

import pytest

pytest.importorskip("google.adk")

from livingai.adapters.google_adk import LivingAISessionService
from tests.frameworks.google_adk import acts
from tests.support.framework_places import other_process
from tests.support.place import Place
from tests.support.waiting import until


def test_what_one_process_appends_another_reads_at_once(place: Place) -> None:
    one, two = other_process(place), other_process(place)
    one.call(acts.create, "s", {"app:a": 1})
    for number in range(5):
        for agent, other in ((one, two), (two, one)):
            name = f"{number}-{agent.pid}"
            agent.call(acts.append, "s", [name], {name: 1, "user:last": name})
            state, events = other.call(acts.state_and_events, "s")
            assert events[-1] == name
            assert state[name] == 1
            assert (state["app:a"], state["user:last"]) == (1, name)
    assert len(events) == 10


def test_of_processes_that_write_at_once_each_event_is_kept_in_one_order(place: Place) -> None:
    agents = [other_process(place) for _ in range(3)]
    agents[0].call(acts.create, "s", {})
    go = place.folder / "go"
    for name, agent in zip("abc", agents, strict=True):
        agent.send(acts.append_again_and_again, "s", name, 100, str(go))
    until(lambda: len(list(place.folder.glob("go-*"))) == 3, what="three that are ready")
    go.touch()
    told = [agent.receive() for agent in agents]
    assert [done for _, done in told] == [100, 100, 100]
    state, events = agents[0].call(acts.state_and_events, "s")
    assert len(events) == len(set(events)) == 300, "one event of each append that succeeded"
    for name in "abc":
        assert [each for each in events if each[0] == name] == [f"{name}{n}" for n in range(100)]
    assert state == {f"{name}{number}": number for name in "abc" for number in range(100)}
    assert state == agents[2].call(acts.state_and_events, "s")[0]
    assert sum(stale for stale, _ in told), "they were never in each other's way"


def test_of_processes_that_create_one_session_one_succeeds(place: Place) -> None:
    agents = [other_process(place) for _ in range(3)]
    for number in range(5):
        for agent in agents:
            agent.send(acts.create, f"s{number}", {"by": agent.pid})
        told = [agent.receive() for agent in agents]
        assert sorted(told) == ["AlreadyExistsError", "AlreadyExistsError", f"s{number}"]
        [creator] = [agent for agent, said in zip(agents, told, strict=True) if said[0] == "s"]
        for agent in agents:
            assert agent.call(acts.state_and_events, f"s{number}") == [{"by": creator.pid}, []]


def test_a_session_that_another_process_deletes_is_gone(place: Place) -> None:
    one, two = other_process(place), other_process(place)
    one.call(acts.create, "s", {"old": 1})
    assert one.call(acts.append_with_what_it_has, "s", "a") == ""
    two.call(acts.delete, "s")
    assert one.call(acts.append_with_what_it_has, "s", "late") == "SessionNotFoundError"
    assert one.call(acts.state_and_events, "s") == [None, None]
    two.call(acts.create, "s", {"new": 1})
    one.call(acts.append, "s", ["b"], {})
    assert two.call(acts.state_and_events, "s") == [{"new": 1}, ["b"]]


def test_what_was_appended_survives_the_death_of_its_process(place: Place) -> None:
    told = place.folder / "told"
    one = other_process(place)
    one.call(acts.create, "s", {})
    names = [f"e{number}" for number in range(30)]
    one.send(acts.append_and_die, "s", names, str(told))
    assert one.died() == -9
    two = other_process(place)
    state, events = two.call(acts.state_and_events, "s")
    assert events == told.read_text().split() == names
    assert state == {**dict.fromkeys(names, 1), **{f"app:{name}": 1 for name in names}}
    two.call(acts.append, "s", ["next"], {})
    assert two.call(acts.state_and_events, "s")[1] == [*names, "next"]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_shared_state_of_a_process_that_died_before_it_came_to_that(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the event and the change of the app's state, the process may die: who goes on with
    the session sees to it."""
    async with place.engine(directory=place.directory.path) as engine:
        dying = LivingAISessionService(engine)
        await dying.create_session(app_name=acts.APP, user_id=acts.USER, session_id="s")

        async def killed(*_: object) -> None:
            raise SystemExit

        monkeypatch.setattr(dying._writer, "change_scopes", killed)
        session = await acts.load(dying, "s")
        with pytest.raises(SystemExit):
            await dying.append_event(session, acts.event("e", {"app:a": 1, "user:b": 2, "c": 3}))
        heir = LivingAISessionService(engine)
        session = await acts.load(heir, "s")
        assert session.state == {"c": 3}
        await heir.append_event(session, acts.event("f", {}))
        assert (await acts.load(heir, "s")).state == {"c": 3, "app:a": 1, "user:b": 2}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_fork_of_a_process_appends_as_another_one(place: Place) -> None:
    one = other_process(place)
    one.call(acts.create, "s", {})
    assert one.call(acts.append_in_a_fork, "s") == 0
    one.call(acts.append, "s", ["parent"], {})
    assert one.call(acts.state_and_events, "s")[1] == ["before", "child", "parent"]
