"""The ranks on other machines: whether they are alive, and how a run ends if one is not.

A machine that stops, or whose network fails, closes no connection: the others would wait for its sums until the limit
of the collectives. So every rank counts up on the store where all have met. Rank 0 watches all counters, the others
that of rank 0; what rank 0 finds, it leaves on the store. A thread counts as long as the process lives, however busy.

An end is written to a folder that may be on the machine that is gone, where a write can block forever: it is printed
first, nothing that it says is read from there, and the process ends after a limit whatever its threads wait for.
"""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from engine.contract import certificate
from engine.contract.bounds import as_json, read_as
from engine.contract.events import RankFailed, RunEnded, Warning
from engine.contract.messages import Message, for_terminal
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from engine.process import connections
from engine.process.last_words import LastWords
from engine.process.signs import GONE, HALTED, Signs, Silence, Standstill, longest_exchange, sign
from engine.process.world import World

BEAT_SECONDS = 2.0
LOOK_SECONDS = 1.0
SILENT_SECONDS = 40.0  # after which a rank counts as lost; a machine that swaps is slow, and not dead
BROKEN_SECONDS = 8.0  # the same once the connection between the ranks is broken
CAUSE_SECONDS = 14.0  # for which a rank whose connection broke looks for the reason
SEND_SECONDS = 2 * BEAT_SECONDS  # in which a live store takes what a rank leaves there
SPREAD_SECONDS = 5.0  # for which rank 0 stays, so that all others read what it found
SAVE_SECONDS = 600.0  # for which a rank that is writing a checkpoint may continue
CONNECT_SECONDS = 30.0
WRITE_SECONDS = 15.0  # the end may have to be written to a file system of the machine that is gone
UNANSWERED_SECONDS = 20.0  # in one exchange, after which a rank looks which connections are at fault
SAVING = ("saving", "publishing")
SILENT, STILL, FAILED = "silent", "still", "failed"  # names on the store
STOPPED = "stopped"  # the reason of a rank that reports no error of its own: it was stopped
LONGEST_TRACEBACK = 4000  # characters, on the store
LONGEST_VALUE = 64 << 10  # bytes of a value on the store
LONGEST_SILENCE = 1e7  # seconds; there is no time of day for infinity or NaN
MOST_PAIRS = 64  # of ranks without a connection

Cause = Silence | Standstill | RankFailed


class PeerWatch:
    """Two threads: one counts up and reads the others' counters, which may block; the other judges what was read."""

    def __init__(self, world: World, run_dir: RunDir, log: EventWriter, store: Store) -> None:
        self._world, self._run_dir, self._log, self._store = world, run_dir, log, store
        self._watched = [rank for rank in range(world.size) if rank] if world.is_main else [0]
        self._signs = Signs(self._watched, time.monotonic())
        self._answered_at = time.monotonic()
        self._found: Silence | Standstill | None = None  # by rank 0
        self._reported: RankFailed | None = None  # by the rank that failed first
        self._halted = False
        self._outbox: dict[str, str] = {}
        self._unsent: list[threading.Event] = []  # one for each call that waits until its value was sent
        self._wake, self._over = threading.Event(), threading.Event()
        self._ending = threading.Lock()  # held by the thread that ends this process
        self._count = 0
        self._stood = (0, time.monotonic())  # the exchange that this rank waits in, and since when
        self._unanswered: set[int] = set()  # ranks that have stopped to answer this one in that exchange
        self._ranks_at: dict[str, int] = {}  # a rank on each other machine, by the addresses of that machine
        self._words = LastWords()
        self._step: Callable[[], int] = int
        name = run_dir.path.name
        self._record = RunRecord(name, "", "train", {"output_dir": os.devnull}, resume_option=f"sft-tui resume {name}")
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
        self._store.set(_place_of(self._world.rank), json.dumps(connections.own_addresses()))
        if self._world.is_main:
            for name in (SILENT, STILL, FAILED):
                self._store.set(name, "")

    def about(self, record: RunRecord, step: Callable[[], int]) -> None:
        """Gives the watch what it will say of the run, so that it need not be read when the run ends."""
        self._record, self._step = record, step

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
        """Leaves the error of this rank on the store: it is the cause of what the others will see.

        The store keeps the first of several reports. That this rank was stopped is therefore part of its sign too.
        """
        self._halted = failure.reason == STOPPED
        short = as_json(failure) | {"traceback": failure.traceback[-LONGEST_TRACEBACK:]}
        self._send(FAILED, json.dumps(short))

    def end_soon(self, why: str) -> None:
        """Has this process end within the time that `certify` needs, whatever blocks it; `why` if nothing was said."""
        self._words.end_within(CAUSE_SECONDS + WRITE_SECONDS + SPREAD_SECONDS, why)

    def stopped(self, failure: RankFailed, at: float) -> bool:
        """Whether a machine that is gone had this rank stopped at `at` (monotonic), which is then certified.

        A launcher that misses a machine signals its ranks, as one does that was asked to end. The others learn of the
        stop: they would take the silence of a rank that ended for the loss of its machine.
        """
        self.report(failure)
        reported = time.monotonic()
        if self.certify(failure, at):
            return True
        if self._world.is_main:  # the store may end with this process
            time.sleep(max(0.0, reported + SPREAD_SECONDS - time.monotonic()))
        return False

    def certify(self, failure: RankFailed, stopped_at: float | None = None) -> bool:
        """Whether `failure` is the consequence of another rank's end, which is then certified as that of the run.

        It may be only if this rank lost the connection to another, or its launcher, or was stopped at `stopped_at`;
        such a stop is believed if each other rank was stopped too, or has lived on since. From here on, the caller ends
        this process.
        """
        self.end_soon(failure.why)
        if not self._ending.acquire(blocking=False):
            self._looking.join()  # it is about to end this process
        found = self._cause(stopped_at)
        if found is not None:
            self._write(self._certificate(found, failure.phase, failure.step, {"why": failure.why}), found)
            self._spread(found)
        return found is not None

    def _cause(self, stopped_at: float | None = None) -> Cause | None:
        """Why the connection between ranks broke: an error that a rank reported, or a rank that has been silent since.

        None if neither is found within `CAUSE_SECONDS`, or if this rank was `stopped_at` that time, and nothing else.
        """
        until = time.monotonic() + CAUSE_SECONDS
        while time.monotonic() < until:
            reported = self._reported
            if stopped_at is not None and reported is not None and reported.reason == STOPPED:
                reported = None  # as this rank was
            alive = stopped_at is not None and self._signs.all_live_since(stopped_at)
            if reported is not None or alive:
                return reported
            if found := self._lost(BROKEN_SECONDS):
                return found
            time.sleep(LOOK_SECONDS / 4)
        return None

    def _write(self, end: RunEnded, cause: Cause) -> None:
        """Prints how the run ended, and writes it if this is the rank to do so."""
        self._words.say(for_terminal(end.message))
        if self._world.is_main or (isinstance(cause, Silence) and cause.rank == 0):
            self._log.write(end)

    def _certificate(self, cause: Cause, phase: str, step: int, evidence: dict[str, str]) -> RunEnded:
        record, world = self._record, self._world
        if isinstance(cause, RankFailed):
            log = self._run_dir.events_of(cause.rank) if cause.rank else self._run_dir.events
            return certificate.failed(record, cause.rank, cause, str(log))
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - cause.seconds))
        if isinstance(cause, Standstill):
            named = [tuple((rank, world.nodes[rank]) for rank in pair) for pair in cause.pairs]
            expected = world.rank_status.longest_exchange
            return certificate.stood_still(record, world.nodes, named, since, cause.seconds, expected, phase, step)
        nodes = (world.nodes[cause.rank], world.nodes[world.rank])
        return certificate.silent(record, cause.rank, nodes, since, cause.seconds, phase, step, evidence)

    def _lost(self, limit: float) -> Silence | Standstill | None:
        """The rank that is lost, or the connection between some, as far as this rank can know."""
        now, world = time.monotonic(), self._world
        if isinstance(self._found, Standstill) or (self._found is not None and self._found.rank != world.rank):
            return self._found
        silence = self._signs.silent(now, limit)
        if not world.is_main:
            return silence
        # The store is on the machine of rank 0: if that does not answer there, the counters prove nothing.
        if now - self._answered_at > BROKEN_SECONDS:
            return None
        still = self._signs.standstill(self._exchange_now(), now, self._unanswered)
        late = still is not None and still.seconds > longest_exchange(world.rank_status.longest_exchange)
        return silence or (still if late else None)

    def _exchange_now(self) -> int:
        """The number of the exchange that this rank waits in; 0 if it waits in none."""
        status = self._world.rank_status
        return status.exchanges if status.waiting else 0

    def _beat(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            unsent, self._count = list(self._unsent), self._count + 1
            sending = dict(self._outbox)  # read last: it has what those wait for
            try:
                self._exchange(sending)
                for sent in unsent:
                    self._unsent.remove(sent)
                    sent.set()
            except DistStoreError:  # the answer came too late, as after a pause of the network, which now works again
                pass
            except RuntimeError:  # the store is gone, and with it every sign of life of rank 0
                return
            self._wake.wait(BEAT_SECONDS)

    def _exchange(self, sending: dict[str, str]) -> None:
        """Counts up, and reads what the others wrote; blocks while the network is down. Raises RuntimeError."""
        own = {str(self._world.rank): self._sign()}
        for name, value in {**own, **sending}.items():
            self._store.compare_set(name, "", value) if name == FAILED else self._store.set(name, value)
        names = [*map(str, self._watched), SILENT, STILL, FAILED]
        asked = time.monotonic()
        *said, silent, still, failed = self._read(names)
        self._answered_at = time.monotonic()
        for rank, words in zip(self._watched, said, strict=True):
            self._signs.read(rank, words, self._answered_at, asked)
        self._take_in(silent, still, failed)

    def _read(self, names: list[str]) -> list[str]:
        """Values of the store, where any program that reaches its port can write: empty if they are too long."""
        values = self._store.multi_get(names)
        return [value.decode("utf-8", "replace") if len(value) <= LONGEST_VALUE else "" for value in values]

    def _sign(self) -> str:
        """What this rank says of itself."""
        if self._halted:
            return f"{self._count}{HALTED}"
        exchange, now = self._exchange_now(), time.monotonic()
        if exchange != self._stood[0]:
            self._stood, self._unanswered = (exchange, now), set()
        if exchange and now - self._stood[1] >= UNANSWERED_SECONDS:
            self._ranks_at = self._ranks_at or self._others()
            silent = connections.unanswered()
            self._unanswered = {rank for at, rank in self._ranks_at.items() if at in silent}
        return sign(self._count, exchange, self._unanswered)

    def _others(self) -> dict[str, int]:
        """A rank on each other machine, by the addresses of that machine; raises RuntimeError."""
        world, found = self._world, dict[str, int]()
        ranks = [world.nodes.index(node) for node in dict.fromkeys(world.nodes) if node != world.nodes[world.rank]]
        for rank, said in zip(ranks, self._read([_place_of(rank) for rank in ranks]), strict=True):
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                found |= {str(at): rank for at in json.loads(said)[: connections.MOST_ADDRESSES]}
        return found

    def _take_in(self, silent: str, still: str, failed: str) -> None:
        """What other ranks left on the store; anybody who reaches it can write there."""
        size = self._world.size
        with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError, AttributeError):
            if silent:
                rank, seconds = json.loads(silent)
                if _is_rank(rank, size) and 0 <= seconds < LONGEST_SILENCE:
                    self._found = Silence(rank, float(seconds))
            if still:
                seconds, pairs = json.loads(still)
                if 0 <= seconds < LONGEST_SILENCE and all(_is_rank(one, size) for pair in pairs for one in pair):
                    self._found = Standstill(float(seconds), tuple((one, other) for one, other in pairs[:MOST_PAIRS]))
            if failed:
                failure = read_as(RankFailed, json.loads(failed))
                if 0 <= failure.rank < size and failure.rank != self._world.rank:
                    self._reported = failure

    def _send(self, name: str, value: str) -> None:
        """Has the other thread write to the store, and waits for it, but no longer than `SEND_SECONDS`."""
        sent = threading.Event()
        self._outbox[name] = value
        self._unsent.append(sent)
        self._wake.set()
        sent.wait(SEND_SECONDS)

    def _spread(self, cause: Cause) -> None:
        """Leaves what rank 0 found to the others; its own end would be the next thing that they find."""
        if not self._world.is_main or isinstance(cause, RankFailed):
            return
        if isinstance(cause, Silence):
            self._send(SILENT, json.dumps([cause.rank, cause.seconds]))
        else:
            self._send(STILL, json.dumps([cause.seconds, cause.pairs[:MOST_PAIRS]]))
        time.sleep(SPREAD_SECONDS)

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            found, failed = self._lost(SILENT_SECONDS), self._world.exchange_failed()
            if failed and self._ending.acquire(blocking=False):
                return self._end_after_exchange()
            if found is not None and self._ending.acquire(blocking=False):
                return self._end(found)

    def _end(self, cause: Silence | Standstill) -> None:
        """Ends this process, whose own thread waits for the lost rank, after the end is written."""
        status, until = self._world.rank_status, time.monotonic() + SAVE_SECONDS
        while status.phase in SAVING and time.monotonic() < until:
            if status.waiting or status.gave_up_waiting:
                break
            time.sleep(LOOK_SECONDS)
        found = self._reported or cause
        end = self._certificate(found, status.phase, self._step(), {})
        self._words.end_within(WRITE_SECONDS + SPREAD_SECONDS, for_terminal(end.message))
        self._write(end, found)
        self._spread(found)
        os._exit(1)

    def _end_after_exchange(self) -> None:
        """Ends this process, whose own thread waits for a GPU: NCCL found that an exchange failed, and does not say so.

        A checkpoint that is being written is not waited for: it could hold what the failed exchange left.
        """
        status, world = self._world.rank_status, self._world
        why = "NCCL: an exchange with another rank failed."
        self.end_soon(why)
        found = self._cause()
        if found is None:
            node = world.nodes[world.rank]
            found = RankFailed("failed", status.phase, self._step(), why, "", waiting=True, rank=world.rank, node=node)
            self.report(found)
            self._log.write(found)
        self._write(self._certificate(found, status.phase, self._step(), {"why": why}), found)
        self._spread(found)
        os._exit(1)


def _place_of(rank: int) -> str:
    """The name on the store of the addresses of a rank's machine."""
    return f"at {rank}"


def _is_rank(value: object, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size


def _connected() -> TCPStore:
    """A connection of our own to the store where the ranks have met; raises RuntimeError, ValueError or KeyError."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    patience = timedelta(seconds=CONNECT_SECONDS)
    return TCPStore(host, port, is_master=False, timeout=patience, wait_for_workers=False)
