"""Where the tokens go: by run, by step, by day; and what a replay costs.

python examples/cost_tracking.py
"""

import os

from livingai import CheckpointEngine, ReplaySession, SQLiteStore, SyncRun, current_run


def ask_model(prompt: str) -> str:
    """A model call that says what it used, as model APIs do."""
    answer = prompt.upper()
    run = current_run()
    assert run is not None
    run.record_cost(tokens=len(prompt) + len(answer))
    return answer


def agent(run: SyncRun, questions: list[str]) -> str:
    """Plans, answers, and summarizes."""
    plan = run.step("plan", ask_model, f"how to answer {len(questions)} questions?")
    answers = [run.step("answer", ask_model, question) for question in questions]
    return run.step("summarize", ask_model, " ".join([plan, *answers]))


def main() -> None:
    """Two runs, their costs, and a replay's."""
    prefix = f"team-{os.getpid()}/"
    topics = {"short": ["why?"], "long": ["why is the sky blue?", "and why is grass green?"]}
    with CheckpointEngine(SQLiteStore("costs.db")) as engine:
        for topic, questions in topics.items():
            with engine.run_sync(prefix + topic) as run:
                agent(run, questions)
        for group in ("execution", "name", "day"):
            print(f"by {group}:")
            for line in engine.costs_sync(group, prefix):
                if line.cost_tokens:
                    print(f"  {line.group:24} {line.cost_tokens:5} tokens")

        # COUNTERFACTUAL serves what does not depend on the change, and what is served is free.
        recorded = {node.metadata["name"]: node for node in engine.nodes_sync(prefix + "long")}
        replay = ReplaySession(engine, prefix + "long").run_sync(
            lambda run: agent(run, topics["long"]),
            mode="counterfactual",
            node_id=recorded["answer"].id,
            overrides={"output": "IT REFLECTS GREEN LIGHT"},
        )
        (line,) = engine.costs_sync("execution", replay.execution_id)
        (whole,) = engine.costs_sync("execution", f"{prefix}long")[:1]
        print("what if the first answer had been another one? (COUNTERFACTUAL)")
        print(f"shown: the replay ran {sum(n.how == 'run' for n in replay.nodes)} of "
              f"{len(replay.nodes)} calls again: {line.cost_tokens} tokens instead of "
              f"{whole.cost_tokens}")  # fmt: skip


if __name__ == "__main__":
    main()
