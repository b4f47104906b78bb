"""What of the logs belongs to a thread: its own entries, those it was copied with, and which of
them its marks hide.

A copy of a thread costs the same whatever its length: a mark in the new thread says up to which
version the old one's log belongs to it, too. So a log may be read on behalf of others, and is only
removed when no copy reads it any more; until then marks hide what was deleted or pruned:

``copying``  nothing: the thread is about to be copied from a log
``copied``   the log of ``from``, as far as its version ``upto``, belongs to this thread, too
``deleted``  what came before this mark does not belong to the thread any more
``pruned``   of the checkpoints up to the version ``upto`` only those in ``keep`` do
``removed``  the checkpoints in ``ids``, up to the version ``upto``, do not
``began``    nothing: its version is the ``upto`` of a mark that follows

The writes of a checkpoint belong to a thread if the checkpoint does. Those that a mark has hidden
with it stay hidden if it is put again; writes that came before their checkpoint did are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from livingai.errors import CorruptRowError
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import Version

#: (namespace, checkpoint id)
Place = tuple[str, str]


class Hiding(NamedTuple):
    """A mark that hides checkpoints whose first version is not above ``upto`` (None: all that the
    layer has), unless they are in ``keep``, or if they are in ``ids``."""

    upto: Version | None
    keep: frozenset[Place] | None = None
    ids: frozenset[Place] = frozenset()

    def hides(self, place: Place, first: Version) -> bool:
        """Whether a checkpoint is hidden."""
        if self.upto is not None and first > self.upto:
            return False
        return self.is_about(place)

    def is_about(self, place: Place) -> bool:
        """Whether the checkpoint with that name is hidden, if it was there."""
        return place not in self.keep if self.keep is not None else place in self.ids


class Layer(NamedTuple):
    """A part of a log that belongs to a thread: entries with a first version in a window, without
    the checkpoints that are hidden."""

    execution_id: str
    after: Version | None
    upto: Version | None
    hidden: tuple[Hiding, ...]

    def shows(self, place: Place, first: Version) -> bool:
        """Whether a checkpoint of the window is visible."""
        return not any(each.hides(place, first) for each in self.hidden)

    def keeps_alone(self, place: Place, first: Version, parent: Place) -> bool:
        """Whether a checkpoint was kept where its parent went."""
        return any(
            each.keep is not None and place in each.keep and parent not in each.keep
            for each in self.hidden
            if each.upto is None or first <= each.upto
        )


def hidden_writes(
    place: Place, entries: Iterable[tuple[Layer, Iterable[Version]]]
) -> Callable[[Layer, Version], bool]:
    """Which writes of a checkpoint are hidden: a function of their layer and version. ``entries``
    are the versions of all entries of the checkpoint, hidden or not, in each layer."""
    was_hidden = any(
        not layer.shows(place, first) for layer, versions in entries for first in versions
    )

    def is_hidden(layer: Layer, first: Version) -> bool:
        return was_hidden and not layer.shows(place, first)

    return is_hidden


class CopyMark(NamedTuple):
    """A mark: the thread was copied from a log, as far as ``upto``; ``token`` names that copy in
    the log of its source."""

    at: Version
    source: str
    upto: Version
    token: str


class Marks(NamedTuple):
    """The marks of one log."""

    after: Version | None
    copied: tuple[CopyMark, ...]
    #: With the versions of the marks.
    hiding: tuple[tuple[Version, Hiding], ...]
    #: Tokens of copies that were made, or begun, and not deleted since.
    tokens: frozenset[str] = frozenset()
    #: Sources and tokens of all copies, of those that were deleted, too.
    sources: tuple[tuple[str, str], ...] = ()
    #: Ids of the nodes of ``hiding`` and of ``began`` marks.
    removable: tuple[str, ...] = ()

    def own_layer(self, execution_id: str, upto: Version | None = None) -> Layer:
        """The entries of the log itself."""
        return Layer(execution_id, self.after, upto, tuple(each for _, each in self.hiding))

    def for_copy(self, copy: CopyMark) -> tuple[Hiding, ...]:
        """What these marks hide of a log that was copied: marks that decided after the copy."""
        return tuple(
            each._replace(upto=None)
            for _, each in self.hiding
            if each.upto is not None and each.upto > copy.at
        )


NO_MARKS = Marks(None, (), ())


def read_marks(found: Iterable[RangedNode], upto: Version | None = None) -> Marks:
    """The marks of a log among these nodes, in any order; of those whose first version is not above
    ``upto``.

    Raises:
        CorruptRowError: one makes no sense.
    """
    nodes = sorted(
        (each for each in found if upto is None or each.first <= upto), key=lambda each: each.first
    )
    after: Version | None = None
    copied: list[CopyMark] = []
    hiding: list[tuple[Version, Hiding]] = []
    tokens: set[str] = set()
    sources: list[tuple[str, str]] = []
    removable: list[str] = []
    for each in nodes:
        try:
            content = each.node.output
            kind = content["mark"]
            if kind == "deleted":
                after, copied, hiding, tokens = each.first, [], [], set()
            elif kind == "copying":
                tokens.add(content["token"])
                sources.append((content["from"], content["token"]))
            elif kind == "copied":
                copied.append(
                    CopyMark(
                        each.first, content["from"], _version(content["upto"]), content["token"]
                    )
                )
            elif kind == "pruned":
                keep = _places(content["keep"])
                hiding.append((each.first, Hiding(_version(content["upto"]), keep)))
                removable.append(each.node.id)
            elif kind == "removed":
                gone = _places(content["ids"])
                hiding.append((each.first, Hiding(_version(content["upto"]), None, gone)))
                removable.append(each.node.id)
            elif kind == "began":
                removable.append(each.node.id)
            else:
                raise ValueError(f"it is of the kind {kind!r:.20}; upgrade livingai to read it")
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise CorruptRowError(f"the mark {each.node.id} makes no sense: {error}") from error
    return Marks(
        after, tuple(copied), tuple(hiding), frozenset(tokens), tuple(sources), tuple(removable)
    )


def _version(value: Any) -> Version:
    epoch, seq = value
    return int(epoch), int(seq)


def _places(value: Sequence[Any]) -> frozenset[Place]:
    return frozenset((str(namespace), str(checkpoint)) for namespace, checkpoint in value)
