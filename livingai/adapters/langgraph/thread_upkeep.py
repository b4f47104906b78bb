"""What a saver does with threads as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from livingai.adapters.langgraph import upkeep
from livingai.adapters.langgraph.ids import ThreadName
from livingai.adapters.langgraph.thread import Thread
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Steps, take, take_sync

_STRATEGIES = ("keep_latest", "delete")


class ThreadUpkeep:
    """The half of :class:`~livingai.adapters.langgraph.LivingAISaver` that deletes, copies and
    prunes threads. Killed anywhere, each leaves the old thread or the new one, and the next call
    removes what is left of the old one."""

    _log: SharedLog

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread, with what is queued for it. Its copies keep what they have."""
        take_sync(upkeep.delete(self._log, self._thread(str(thread_id))))

    async def adelete_thread(self, thread_id: str) -> None:
        """As :meth:`delete_thread`."""
        await take(upkeep.delete(self._log, self._thread(str(thread_id))))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Give a thread all that another one has now, in a time that does not depend on how much
        that is; what either gets later is its own."""
        take_sync(self._copy(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As :meth:`copy_thread`."""
        await take(self._copy(source_thread_id, target_thread_id))

    def _copy(self, source: str, target: str) -> Steps[None]:
        return upkeep.copy(self._log, self._thread(str(source)), self._thread(str(target)))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs made, with their writes. It looks at all threads.

        A thread that goes on behind such a checkpoint loses what its delta channels are built from
        there.
        """
        take_sync(self._remove_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As :meth:`delete_for_runs`."""
        await take(self._remove_runs(run_ids))

    def _remove_runs(self, run_ids: Sequence[str]) -> Steps[None]:
        runs = set(_ids(run_ids, "run_ids"))
        if not runs:
            return
        for thread in (yield from Thread.all(self._log)):
            yield from upkeep.remove_runs(self._log, thread, runs)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """``keep_latest``: of each thread and namespace keep the latest checkpoint, with its writes
        and the ancestors that its delta channels are built from. ``delete``: remove the threads.
        What is saved meanwhile stays.

        Raises:
            TypeError: ``thread_ids`` is a single text.
            ValueError: there is no such strategy.
        """
        take_sync(self._prune(thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As :meth:`prune`."""
        await take(self._prune(thread_ids, strategy))

    def _prune(self, thread_ids: Sequence[str], strategy: str) -> Steps[None]:
        if strategy not in _STRATEGIES:
            raise ValueError(f"strategy is one of {', '.join(_STRATEGIES)}, not {strategy!r}")
        work = upkeep.prune if strategy == "keep_latest" else upkeep.delete
        for thread_id in _ids(thread_ids, "thread_ids"):
            yield from work(self._log, self._thread(thread_id))

    def _thread(self, thread_id: str) -> Thread:
        thread = Thread(self._log, ThreadName.of(thread_id))
        self._log.check(thread.execution_id)
        return thread


def _ids(values: Sequence[str], name: str) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{name} is a sequence of ids, not a str")
    return [str(value) for value in values]
