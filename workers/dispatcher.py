"""The dispatcher: tails the journals, has records encoded and written, and tells the outcomes.

Invariants, per record:

* The outcome word is written after the store has committed (or refused) the record, and never
  twice; the cursor moves after the outcome words; agents are told after that.
* A crash at any point loses none of it: records behind the cursor are taken again, those with an
  outcome word are skipped, the others are committed again, which changes nothing in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import mmap
import os
import signal
import sys
import threading
import time

from livingai.config import ServiceConfig
from livingai.errors import ServiceRunningError
from livingai.failpoint import failpoint
from livingai.outcome import STATUS_BY_CODE, STATUS_CODES, OutcomeStatus
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import SERVICE_STATE_BYTES, Flag, ServiceWord
from livingai.queue.lock import OwnerLock, owner_identity
from livingai.queue.record import pack_outcome
from livingai.queue.tail import Damage
from livingai.workers.barrier import Barriers
from livingai.workers.bases import Bases
from livingai.workers.compressor import Encoded
from livingai.workers.intake import Feed, Intake, Item
from livingai.workers.keeper import Keeper
from livingai.workers.lanes import Partition
from livingai.workers.pool import CompressorPool
from livingai.workers.process import die_with_parent, yield_to_agents
from livingai.workers.quarantine import set_aside
from livingai.workers.server import AgentServer
from livingai.workers.writing import WriterLane

_log = logging.getLogger("livingai.service")
#: Records and raw bytes on their way at once.
_MAX_INFLIGHT = 8192
_MAX_INFLIGHT_BYTES = 128 << 20
#: States smaller than this are not worth a trip to the compressors.
_ENCODE_FROM_BYTES = 1024
#: Seconds between looks for lost wake-ups, new journals and dead owners.
_POLL_S = 0.2
#: Seconds that a new dispatcher waits for one that is ending.
_TAKE_OVER_S = 3.0
#: Exit status: another service owns the directory.
EXIT_RUNNING = 3

_MET = STATUS_CODES[OutcomeStatus.MET]
_LATE = STATUS_CODES[OutcomeStatus.LATE]
_QUARANTINED = STATUS_CODES[OutcomeStatus.QUARANTINED]


class Dispatcher:
    """One per state directory; lives in the event loop of its process."""

    def __init__(self, config: ServiceConfig, directory: StateDirectory) -> None:
        self.config = config
        self.directory = directory
        self.started_at = time.time()
        self.intake = Intake(directory)
        self.barriers = Barriers(self)
        self.counts = dict.fromkeys(OutcomeStatus, 0)
        self._bases = Bases()
        self.inflight = 0
        self.inflight_bytes = 0
        self._kick = asyncio.Event()
        self._stopping = asyncio.Event()
        self._drain = True
        self._unsettled: dict[Feed, list[tuple[int, int]]] = {}
        self._reasons: dict[Feed, dict[int, str]] = {}
        self.pool = CompressorPool(config.compressors, config.codec, self._encoded)  # type: ignore[arg-type]
        self.writers = [WriterLane(self, Partition()) for _ in range(config.writers)]
        self.server = AgentServer(self)
        self.keeper = Keeper(self)
        with open(directory.service_state, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), SERVICE_STATE_BYTES)
        self._words = memoryview(self._page).cast("Q")
        self._words[ServiceWord.PID] = os.getpid()

    # -- turns --

    @property
    def trouble(self) -> str:
        """Why the store takes no writes now; "" while it does."""
        return next((writer.trouble for writer in self.writers if writer.trouble), "")

    def kick(self) -> None:
        """Something may have changed: take another turn."""
        self._kick.set()

    def stop(self, *, drain: bool = True) -> None:
        """End: with ``drain`` once what is queued is stored, else at once. Idempotent."""
        self._drain = drain
        self._stopping.set()
        self.kick()

    async def run(self) -> None:
        """Serve until told to stop, or until idle."""
        await self.server.start()
        warm = asyncio.create_task(self._warm())
        retain = asyncio.create_task(self.keeper.retain())
        look_at = 0.0
        while not await self._over():
            self._kick.clear()
            now = time.monotonic()
            self._words[ServiceWord.HEARTBEAT_NS] = int(now * 1e9)
            if now >= look_at:
                look_at = now + _POLL_S
                self.keeper.look_around()
            if self._turn():
                await asyncio.sleep(0)
                continue
            self._words[ServiceWord.WAITING] = 1
            if not self._turn():  # an append that came before the word was set did not wake us
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._kick.wait(), _POLL_S)
            self._words[ServiceWord.WAITING] = 0
        warm.cancel()
        retain.cancel()
        await self._shut_down()

    async def _warm(self) -> None:
        await asyncio.gather(self.pool.warm(), *(writer.warm() for writer in self.writers))
        self.keeper.ready.set()

    async def _over(self) -> bool:
        if self._stopping.is_set():
            drained = self.inflight == 0 and not self.intake_waiting()
            return drained or not self._drain or self.keeper.grace_over()
        return self.keeper.idle()

    def intake_waiting(self) -> bool:
        """Whether a journal has records that were not taken yet."""
        return any(feed.ahead for feed in self.intake.feeds.values())

    def _turn(self) -> bool:
        """Take what is there and hand it on; whether there was anything."""
        taken = 0
        room = _MAX_INFLIGHT - self.inflight
        if self.inflight_bytes < _MAX_INFLIGHT_BYTES:
            for item in self.intake.take(room):
                taken += 1
                self._dispatch(item)
                if self.inflight_bytes >= _MAX_INFLIGHT_BYTES:
                    break
        failpoint("intake.after_read")
        self.keeper.set_damage_aside()
        self.pool.flush()
        for writer in self.writers:
            writer.flush()
        self._tell()
        self.barriers.check()
        return taken > 0

    def _dispatch(self, item: Item) -> None:
        header = item.header
        known = item.feed.outcome_of(item)
        if known is not None:  # settled by an earlier life of the service
            item.done = True
            item.feed.skip()
            self._unsettled.setdefault(item.feed, [])
            return
        self.inflight += 1
        self.inflight_bytes += header.length
        lane = self.writers[header.execution_hash % len(self.writers)]
        encode = (
            bool(header.flags & Flag.STATE)
            and header.state_len >= _ENCODE_FROM_BYTES
            and self.config.codec != "raw"
        )
        if encode:
            self._bases.choose(item)
        item.ready = not encode
        lane.partition.add(item)
        if encode:
            self.pool.add(item)

    def _encoded(self, item: Item, encoded: Encoded | None) -> None:
        """The pool has encoded a record; None: store it raw."""
        if item.done:
            return
        lane = self.writers[item.header.execution_hash % len(self.writers)]
        if encoded is not None and encoded.error:
            lane.partition.discard(item)
            self.set_aside(item, encoded.error)
        else:
            item.encoded = encoded
            lane.partition.mark_ready(item)
        lane.flush()
        self._tell()

    def encode_again(self, items: list[Item]) -> None:
        """The store has not got the base of these records: encode them without one."""
        for item in items:
            item.base_at = 0
            item.encoded = None
            item.ready = False
            self._bases.forget(item)
            self.pool.add(item)
        self.pool.flush()

    # -- outcomes --

    def settle(self, item: Item, status: int, when_ns: int, reason: str = "") -> None:
        """Give a record its terminal outcome; :meth:`_tell` tells it."""
        header = item.header
        if item.feed.same_boot:
            latency_us = max(0, when_ns - header.mono_ns) // 1000
        else:  # monotonic time has started anew since
            latency_us = max(0, time.time_ns() - header.wall_ns) // 1000
        if status == _MET and latency_us > header.budget_us:
            status = _LATE
        elif status not in (_MET, _LATE):
            self._bases.forget(item)
        failpoint("dispatcher.before_outcome")
        word = item.feed.settle(item, status, latency_us)
        failpoint("dispatcher.after_outcome")
        self.inflight -= 1
        self.inflight_bytes -= header.length
        self.counts[STATUS_BY_CODE[status]] += 1
        self._unsettled.setdefault(item.feed, []).append((header.lsn, word))
        if reason:
            self._reasons.setdefault(item.feed, {})[header.lsn] = reason

    def store_answered(self, batch: list[tuple[Item, int, int, str]]) -> None:
        """Rows of a batch have been decided: (record, outcome code, commit time ns, reason)."""
        for item, status, when_ns, reason in batch:
            self.settle(item, status, when_ns, reason)
        self._tell()
        self.barriers.check()
        self.kick()

    def set_aside(self, item: Item, reason: str) -> None:
        """Quarantine a record: its bytes go to a file, then it is terminal."""
        segment = item.feed.tail.segments.get(item.at >> 32)
        offset = item.at & 0xFFFF_FFFF
        data = bytes(segment.view[offset : offset + item.header.length]) if segment else b""
        _log.error("record %d of %s is quarantined: %s", item.header.lsn, item.feed.path, reason)
        try:
            set_aside(
                self.directory.quarantine, item.feed.journal_id, item.at, data,
                reason=reason, lsn=item.header.lsn,
            )  # fmt: skip
        except OSError as error:  # it stays in the journal, so it is not terminal
            _log.error("cannot write to the quarantine, trying again: %s", error)
            asyncio.get_running_loop().call_later(1.0, self.set_aside, item, reason)
            return
        self.settle(item, _QUARANTINED, time.monotonic_ns(), reason)
        self.kick()

    def settle_damaged(self, feed: Feed, damage: Damage) -> None:
        """Records that cannot be read were set aside: their owner is told, if it still lives."""
        for lsn in range(damage.first_lsn, damage.last_lsn + 1):
            self.counts[OutcomeStatus.QUARANTINED] += 1
            word = pack_outcome(lsn, _QUARANTINED, 0)
            self._unsettled.setdefault(feed, []).append((lsn, word))
            self._reasons.setdefault(feed, {})[lsn] = damage.reason
        self.kick()

    def _tell(self) -> None:
        """Move cursors, then tell agents what happened."""
        if not self._unsettled:
            return
        unsettled, self._unsettled = self._unsettled, {}
        for feed, outcomes in unsettled.items():
            feed.advance()
            failpoint("dispatcher.after_cursor")
            if outcomes:
                self.server.tell(feed, outcomes, self._reasons.pop(feed, {}))

    # -- end --

    async def _shut_down(self) -> None:
        self.server.close()
        for writer in self.writers:
            await writer.close()
        await self.server.close_workers()
        self.pool.close()
        self.keeper.retire_all()
        self.intake.close()


def _watch_parent() -> None:
    """The supervisor holds the other end of our standard input; its end is ours."""
    while os.read(0, 4096):
        pass
    os._exit(1)


async def _main(config: ServiceConfig, directory: StateDirectory) -> None:
    dispatcher = Dispatcher(config, directory)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, dispatcher.stop)
    loop.add_signal_handler(signal.SIGQUIT, lambda: dispatcher.stop(drain=False))
    await dispatcher.run()


def _take_over(directory: StateDirectory) -> OwnerLock | None:
    """The directory's lock; None if another service owns and serves it. One that is ending has
    closed its socket and still holds the lock for a moment: its successor waits for it."""
    deadline = time.monotonic() + _TAKE_OVER_S
    while (lock := OwnerLock.acquire(directory.lock)) is None:
        with contextlib.suppress(OSError):
            directory.connect(1.0).close()
            return None
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return lock


def main() -> int:
    """``dispatcher PARENT_PID``, settings as one JSON line on standard input."""
    die_with_parent(int(sys.argv[1]))
    yield_to_agents()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor tells us when to stop
    logging.basicConfig(format="%(asctime)s service %(levelname)s %(message)s", level=logging.INFO)
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return 1
        line += chunk
    config = ServiceConfig(**json.loads(line))
    threading.Thread(target=_watch_parent, daemon=True).start()
    directory = StateDirectory(config.directory)
    directory.ensure(config.spec().build().url)
    lock = _take_over(directory)
    if lock is None:
        pid = owner_identity(directory.lock).get("pid")
        sys.stderr.write(f"{ServiceRunningError()} (process {pid})\n")
        return EXIT_RUNNING
    try:
        import uvloop  # noqa: PLC0415 - the service's choice, not its importers'

        uvloop.run(_main(config, directory))
    finally:
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
