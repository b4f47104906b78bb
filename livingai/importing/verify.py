"""Reading back what was imported: the framework's saver and livingai's have to give the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from livingai.adapters.langgraph import LivingAISaver
from livingai.errors import ImportMismatchError

#: Checkpoints that a saver is asked for at once; it may hold all of them in memory.
_PAGE: Final = 16


def verify_namespace(
    source: Any, target: LivingAISaver, thread_id: str, namespace: str
) -> Iterator[None]:
    """Compare the tuples of ``list`` and ``get_tuple`` of both savers, the newest first; yields
    after each checkpoint of the source.

    The target may have more: checkpoints and writes of a program that went on there.

    Raises:
        ImportMismatchError: something of the source is missing, or not the same.
    """
    place = f"thread {thread_id!r:.80}" + (f", namespace {namespace!r:.80}" if namespace else "")
    theirs = _listed(target, thread_id, namespace)
    newest = True
    other = next(theirs, None)
    for one in _listed(source, thread_id, namespace):
        checkpoint_id = one.checkpoint["id"]
        more = False
        while other is not None and other.checkpoint["id"] > checkpoint_id:
            other, more = next(theirs, None), True
        where = f"checkpoint {checkpoint_id} of {place}"
        if other is None or other.checkpoint["id"] != checkpoint_id:
            raise ImportMismatchError(f"{where} is not in the store")
        _compare(target, one, other, f"{where}, as listed,")
        named = one.config
        _compare(target, source.get_tuple(named), target.get_tuple(named), where)
        if newest and not more:
            latest = {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}
            _compare(target, source.get_tuple(latest), target.get_tuple(latest), f"latest {where}")
        newest = False
        yield


def _listed(saver: Any, thread_id: str, namespace: str) -> Iterator[Any]:
    """The checkpoints of a namespace, the newest first, a page at a time."""
    config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}
    before = None
    while True:
        page = list(saver.list(config, before=before, limit=_PAGE))
        yield from page
        if len(page) < _PAGE:
            return
        before = page[-1].config


def _compare(target: LivingAISaver, one: Any, other: Any, where: str) -> None:
    """Raises ImportMismatchError unless both tuples are the same, but for writes that came later
    in the target."""
    if one is None or other is None:
        raise ImportMismatchError(f"{where} is not in the store")
    dumps = target.serde.dumps_typed
    values, their_values = one.checkpoint["channel_values"], other.checkpoint["channel_values"]
    different = [
        *(name for name in ("config", "metadata", "parent_config")
          if getattr(one, name) != getattr(other, name)),
        *(f"field {key!r}" for key in {**one.checkpoint, **other.checkpoint}
          if key != "channel_values"
          and one.checkpoint.get(key, other) != other.checkpoint.get(key, one)),
        *(f"channel {key!r:.80}" for key in {**values, **their_values}
          if key not in values or key not in their_values
          or dumps(values[key]) != dumps(their_values[key])),
    ]  # fmt: skip
    has = [(task, channel, dumps(value)) for task, channel, value in other.pending_writes or ()]
    wanted = [(task, channel, dumps(value)) for task, channel, value in one.pending_writes or ()]
    if not _is_within(wanted, has):
        different.append("pending writes")
    if different:
        raise ImportMismatchError(
            f"{where} is not the same in the store ({', '.join(different)}). Where the program "
            "went on with a thread in both, delete it in the store first, or import into another "
            "store; nothing was changed in the source"
        )


def _is_within(wanted: Sequence[Any], has: Sequence[Any]) -> bool:
    """Whether all of ``wanted`` are in ``has``, in the same order."""
    left = iter(has)
    return all(any(each == one for one in left) for each in wanted)
