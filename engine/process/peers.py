"""The ranks on other machines: whether they are alive, and how a run ends if one is not.

A machine that stops, or whose network fails, closes no connection: the others would wait for its sums until the limit
of the collectives. So every rank counts up on the store where all have met. Rank 0 watches all counters, the others
that of rank 0; what rank 0 finds, it leaves on the store. A thread counts as long as the process lives, however busy.
"""

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from engine.contract import certificate
from engine.contract.bounds import as_json, read_as
from engine.contract.events import RankFailed, RunEnded, Warning
from engine.contract.harmless import harmless
from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter, last_step
from engine.process.world import World

BEAT_SECONDS = 2.0
LOOK_SECONDS = 1.0
SILENT_SECONDS = 40.0  # after which a rank counts as lost; a machine that swaps is slow, and not dead
BROKEN_SECONDS = 8.0  # the same once the connection between the ranks is broken
PAUSE_SECONDS = 10.0  # a look that comes this late: this process itself was suspended, which proves nothing of others
CAUSE_SECONDS = 14.0  # for which a rank whose connection broke looks for the reason
SPREAD_SECONDS = 5.0  # for which rank 0 stays, so that all others read what it found
SAVE_SECONDS = 600.0  # for which a rank that is writing a checkpoint may continue
CONNECT_SECONDS = 30.0
WRITE_SECONDS = 15.0  # the end may have to be written to a file system of the machine that is gone
SAVING = ("saving", "publishing")
GONE = "gone"  # the counter of a rank that ended in order
SILENT, FAILED = "silent", "failed"  # names on the store
LONGEST_TRACEBACK = 4000  # characters, on the store
LONGEST_SILENCE = 1e7  # seconds; there is no time of day for infinity or NaN


@dataclass(frozen=True)
class Silence:
    """A rank that gives no sign of life, and for how many seconds."""

    rank: int
    seconds: float


class Signs:
    """When each watched rank last gave a sign of life, by the clock of this process (monotonic seconds)."""

    def __init__(self, ranks: Iterable[int], now: float) -> None:
        self._counts = dict.fromkeys(ranks, "")
        self._at = dict.fromkeys(self._counts, now)
        self._looked_at = now
        self._one_at_a_time = threading.Lock()

    def read(self, rank: int, count: str, now: float) -> None:
        """Takes in a rank's counter."""
        with self._one_at_a_time:
            if count == GONE:
                self._at.pop(rank, None)
            elif rank in self._at and self._counts[rank] != count:
                self._counts[rank], self._at[rank] = count, now

    def silent(self, now: float, limit: float) -> Silence | None:
        """The rank that has been silent longest, if for more than `limit` seconds; to be asked about every second."""
        with self._one_at_a_time:
            if now - self._looked_at > PAUSE_SECONDS:
                self._at = dict.fromkeys(self._at, now)
            self._looked_at = now
            rank, at = min(self._at.items(), key=lambda one: one[1], default=(0, now))
        return Silence(rank, now - at) if now - at > limit else None


class PeerWatch:
    """Two threads: one counts up and reads the others' counters, which may block; the other judges what was read."""

    def __init__(self, world: World, run_dir: RunDir, log: EventWriter, store: Store) -> None:
        self._world, self._run_dir, self._log, self._store = world, run_dir, log, store
        self._watched = [rank for rank in range(world.size) if rank] if world.is_main else [0]
        self._signs = Signs(self._watched, time.monotonic())
        self._answered_at = time.monotonic()
        self._found: Silence | None = None  # by rank 0
        self._reported: RankFailed | None = None  # by the rank that failed first
        self._outbox: dict[str, str] = {}
        self._sent, self._wake, self._over = threading.Event(), threading.Event(), threading.Event()
        self._ending = threading.Lock()  # held by the thread that ends this process
        self._count = 0
        self._beating = threading.Thread(target=self._beat, name="peers", daemon=True)
        self._looking = threading.Thread(target=self._look, name="watch", daemon=True)

    @classmethod
    def of(cls, world: World, run_dir: RunDir, log: EventWriter) -> "PeerWatch | None":
        """The watch over the ranks on other machines, started; None if there are none. All ranks call it."""
        if len(world.machines) < 2:
            return None
        prefix = world.from_main(secrets.token_hex(8))  # a launcher that restarts its ranks keeps its store
        watch = None
        with contextlib.suppress(RuntimeError, ValueError, KeyError):
            watch = cls(world, run_dir, log, PrefixStore(prefix, _connected()))
            watch.announce()
        if not all(world.gather([watch is not None])):
            if world.is_main:
                log.write(Warning(Message.of("peers_unwatched")))
            return None
        if watch is not None:
            watch.start()
        return watch

    def announce(self) -> None:
        """Puts everything on the store that the others will read, so that no read waits for it."""
        self._store.set(str(self._world.rank), "0")
        if self._world.is_main:
            self._store.set(SILENT, "")
            self._store.set(FAILED, "")

    def start(self) -> None:
        """Starts to count and to watch."""
        self._beating.start()
        self._looking.start()

    def stop(self, *, in_order: bool) -> None:
        """Ends the watch; unless the rank ended `in_order`, the others miss it."""
        if in_order:
            self._send(str(self._world.rank), GONE)
        self._over.set()
        self._wake.set()
        self._looking.join()

    def report(self, failure: RankFailed) -> None:
        """Leaves the error of this rank on the store: it is the cause of what the others will see."""
        short = as_json(failure) | {"traceback": failure.traceback[-LONGEST_TRACEBACK:]}
        self._send(FAILED, json.dumps(short))

    def cause(self) -> "Silence | RankFailed | None":
        """Why the connection between ranks broke: an error that a rank reported, or a rank that has been silent since.

        None if neither is found within `CAUSE_SECONDS`. From here on, the caller ends this process.
        """
        if not self._ending.acquire(blocking=False):
            self._looking.join()  # it is about to end this process
        until = time.monotonic() + CAUSE_SECONDS
        while time.monotonic() < until:
            if found := self._reported or self._silent(BROKEN_SECONDS):
                return found
            time.sleep(LOOK_SECONDS / 4)
        return None

    def certify(self, failure: RankFailed) -> bool:
        """Whether `failure` is the consequence of another rank's end, which is then certified as that of the run."""
        found = self.cause()
        if found is not None:
            self._write(found, failure.phase, failure.step, {"why": failure.why})
            self._spread(found)
        return found is not None

    def _write(self, cause: Silence | RankFailed, phase: str, step: int, evidence: dict[str, str]) -> None:
        """Prints how the run ended, and writes it if this is the rank to do so."""
        end = self._certificate(cause, phase, step, evidence)
        with contextlib.suppress(OSError, ValueError):
            print(harmless(end.message.text()), file=sys.stderr, flush=True)
        if self._world.is_main or (isinstance(cause, Silence) and cause.rank == 0):
            self._log.write(end)

    def _certificate(self, cause: Silence | RankFailed, phase: str, step: int, evidence: dict[str, str]) -> RunEnded:
        record, world = self._run_dir.read_record(), self._world
        if isinstance(cause, RankFailed):
            log = self._run_dir.events_of(cause.rank) if cause.rank else self._run_dir.events
            return certificate.failed(record, cause.rank, cause, str(log))
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - cause.seconds))
        nodes = (world.nodes[cause.rank], world.nodes[world.rank])
        return certificate.silent(record, cause.rank, nodes, since, cause.seconds, phase, step, evidence)

    def _silent(self, limit: float) -> Silence | None:
        """The rank that is lost, as far as this one can know."""
        now, world = time.monotonic(), self._world
        if self._found is not None and self._found.rank != world.rank:
            return self._found
        silence = self._signs.silent(now, limit)
        # The store is on the machine of rank 0: if that does not answer there, the counters prove nothing.
        return None if world.is_main and now - self._answered_at > BROKEN_SECONDS else silence

    def _beat(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            sending, self._count = dict(self._outbox), self._count + 1
            try:
                self._exchange(sending)
                if sending:
                    self._sent.set()
            except DistStoreError:  # the answer came too late, as after a pause of the network, which now works again
                pass
            except RuntimeError:  # the store is gone, and with it every sign of life of rank 0
                return
            self._wake.wait(BEAT_SECONDS)

    def _exchange(self, sending: dict[str, str]) -> None:
        """Counts up, and reads what the others wrote; blocks while the network is down. Raises RuntimeError."""
        for name, value in {str(self._world.rank): str(self._count), **sending}.items():
            self._store.compare_set(name, "", value) if name == FAILED else self._store.set(name, value)
        names = [*map(str, self._watched), SILENT, FAILED]
        *counts, silent, failed = (value.decode("utf-8", "replace") for value in self._store.multi_get(names))
        self._answered_at = time.monotonic()
        for rank, count in zip(self._watched, counts, strict=True):
            self._signs.read(rank, count, self._answered_at)
        self._take_in(silent, failed)

    def _take_in(self, silent: str, failed: str) -> None:
        """What other ranks left on the store; anybody who reaches it can write there."""
        with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError, AttributeError):
            if silent:
                rank, seconds = json.loads(silent)
                if isinstance(rank, int) and 0 <= rank < self._world.size and 0 <= seconds < LONGEST_SILENCE:
                    self._found = Silence(rank, float(seconds))
            if failed:
                failure = read_as(RankFailed, json.loads(failed))
                if 0 <= failure.rank < self._world.size and failure.rank != self._world.rank:
                    self._reported = failure

    def _send(self, name: str, value: str) -> None:
        """Has the other thread write to the store, and waits for it, but no longer than a live store needs."""
        self._outbox[name] = value
        self._sent.clear()
        self._wake.set()
        self._sent.wait(2 * BEAT_SECONDS)

    def _spread(self, cause: Silence | RankFailed) -> None:
        """Leaves what rank 0 found to the others; its own end would be the next thing that they find."""
        if self._world.is_main and isinstance(cause, Silence):
            self._send(SILENT, json.dumps([cause.rank, cause.seconds]))
            time.sleep(SPREAD_SECONDS)

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            silence = self._silent(SILENT_SECONDS)
            if silence is not None and self._ending.acquire(blocking=False):
                return self._end(silence)

    def _end(self, silence: Silence) -> None:
        """Ends this process, whose own thread waits for the lost rank, after the end is written."""
        status, until = self._world.rank_status, time.monotonic() + SAVE_SECONDS
        while status.phase in SAVING and not status.waiting and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        late = threading.Timer(WRITE_SECONDS + SPREAD_SECONDS, os._exit, (1,))
        late.daemon = True
        late.start()
        step = 0
        with contextlib.suppress(InputError, ValueError):
            step = last_step(self._run_dir.events)
        with contextlib.suppress(OSError, InputError):
            self._write(self._reported or silence, status.phase, step, {})
        self._spread(silence)
        os._exit(1)


def _connected() -> TCPStore:
    """A connection of our own to the store where the ranks have met; raises RuntimeError, ValueError or KeyError."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    patience = timedelta(seconds=CONNECT_SECONDS)
    return TCPStore(host, port, is_master=False, timeout=patience, wait_for_workers=False)
