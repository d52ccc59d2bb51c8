"""Before ranks of several machines meet: rank 0 knows who is missing and says so, and nobody waits forever.

torch's own meeting waits silently. Here rank 0 opens the same store first (one process has one server a port, so
torch's finds it), every rank enters itself, and all continue when all have come. Under torchrun and accelerate, whose
agents have met by then, it takes a moment.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from engine.contract import environment
from engine.contract.messages import InputError, Message, Value, for_terminal
from engine.contract.processes import host_name
from engine.contract.untrusted import one_line
from engine.process.meeting import MOST_NAMED, await_name, some

LIMIT_SECONDS = 1800.0  # for all to come: a machine may have to be found, started, or have its cache filled
LOOK_SECONDS = 0.2
SAY_SECONDS, SAY_AGAIN_SECONDS = 5.0, 60.0
CONNECT_SECONDS = 10.0  # for one attempt to reach rank 0
SPREAD_SECONDS = 3.0  # for which rank 0 stays when it gives up, so that the others read why
ALL, LATE = "all", "late"  # names on the store
TIMED_OUT = os.strerror(errno.ETIMEDOUT)


@dataclass(frozen=True)
class Awaited:
    """What `rank` waits for: those of `size` ranks that have not come to where all meet, and since when (Unix time).

    Nobody is `missing` as far as a rank knows that has met rank 0, and now waits until that has met the others.
    """

    rank: int
    size: int
    address: str
    port: int
    missing: tuple[int, ...]
    since: float

    def message(self) -> Message:
        """Who is waited for."""
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        at: dict[str, Value] = {"address": self.address, "port": self.port, "since": since}
        if self.rank:
            return Message.of("main_awaited", **at)
        there = self.size - len(self.missing)
        return Message.of("ranks_awaited", there=there, ranks=self.size, missing=some(map(str, self.missing)), **at)


Report = Callable[[Awaited], None]  # called at every look


def called(given: Mapping[str, str], report: Report) -> Store | None:
    """Waits until all ranks have come; returns their store, to be kept until they have met.

    None if nobody need be waited for (a supervisor started all on one machine, or there is only one), or if the port of
    rank 0 is taken: `meeting` says so. Raises InputError after `LIMIT_SECONDS`, and what `report` raises.
    """
    size, rank = int(given.get("WORLD_SIZE", "1")), int(given.get("RANK", "0"))
    by_file = environment.SUPERVISOR in given or environment.RENDEZVOUS in given
    if size < 2 or by_file or not given.get("MASTER_ADDR") or "MASTER_PORT" not in given:
        return None
    return _RollCall(rank, size, given, report).complete()


class Pace:
    """When to say who is waited for: after `SAY_SECONDS`, when others are missing than before, and every minute."""

    def __init__(self) -> None:
        self._due_at = time.monotonic() + SAY_SECONDS
        self._missing: tuple[int, ...] = ()

    def due(self, awaited: Awaited) -> bool:
        """Whether it is time."""
        now = time.monotonic()
        others = self._missing not in ((), awaited.missing)
        if not awaited.missing or now < self._due_at - (SAY_AGAIN_SECONDS - SAY_SECONDS) * others:
            return False
        self._due_at, self._missing = now + SAY_AGAIN_SECONDS, awaited.missing
        return True


def printing() -> Report:
    """Prints who is waited for."""
    pace = Pace()

    def say(awaited: Awaited) -> None:
        if pace.due(awaited):
            print(for_terminal(awaited.message()), file=sys.stderr, flush=True)

    return say


class _RollCall:
    def __init__(self, rank: int, size: int, given: Mapping[str, str], report: Report) -> None:
        self._rank, self._size, self._report = rank, size, report
        self._address, self._port = given["MASTER_ADDR"], int(given["MASTER_PORT"])
        agent = given.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)  # torchrun's: its store is there already
        self._opens = rank == 0 and not agent
        self._prefix = f"roll call {given.get('TORCHELASTIC_RUN_ID', '')} {given.get('TORCHELASTIC_RESTART_COUNT', '')}"
        self._began, self._since = time.monotonic(), time.time()

    def complete(self) -> Store | None:
        try:
            opened = self._opened() if self._opens else self._connected()
            if opened is None:
                return None
            store = PrefixStore(self._prefix, opened)
            store.set(str(self._rank), "")
            self._gather(store) if self._rank == 0 else self._follow(store)
        except RuntimeError as error:  # rank 0, whose store it is, has ended
            raise self._no_main(one_line(error)) from None
        return store

    def _opened(self) -> TCPStore | None:
        patience = timedelta(seconds=CONNECT_SECONDS)
        how = {"is_master": True, "timeout": patience, "wait_for_workers": False, "multi_tenant": True}
        await_name(self._address, host_name())
        while True:
            try:
                return TCPStore(self._address, self._port, self._size, **how)  # type: ignore[arg-type]
            except RuntimeError as error:
                if "EADDRINUSE" in str(error):
                    return None
                if self._late():  # until then its own address may not lead here yet, as in Kubernetes
                    raise
            self._look(tuple(range(1, self._size)))

    def _connected(self) -> TCPStore:
        await_name(self._address, host_name())
        while True:
            why = self._unreachable()
            if not why:
                patience = timedelta(seconds=CONNECT_SECONDS)
                return TCPStore(self._address, self._port, is_master=False, timeout=patience, wait_for_workers=False)
            if self._late():
                raise self._no_main(why)
            self._look((0,))

    def _unreachable(self) -> str:
        """Why rank 0 cannot be reached; empty if it can. torch would print each attempt."""
        try:
            socket.create_connection((self._address, self._port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _gather(self, store: Store) -> None:
        """Waits until all have entered themselves, and tells them."""
        missing = tuple(range(1, self._size))
        while missing := tuple(rank for rank in missing if not store.check([str(rank)])):
            if self._late():
                store.set(LATE, json.dumps(missing[: MOST_NAMED + 1]))
                time.sleep(SPREAD_SECONDS)
                raise self._missing(missing)
            self._look(missing)
        store.set(ALL, "")

    def _follow(self, store: Store) -> None:
        """Waits until rank 0 says that all have come; raises RuntimeError if it ends."""
        while not store.check([ALL]):
            if store.check([LATE]):
                with contextlib.suppress(ValueError, TypeError, RecursionError):  # anybody can write there
                    raise self._missing(tuple(int(rank) for rank in json.loads(store.get(LATE)[:1000])))
            if self._late(more=4 * SPREAD_SECONDS):
                raise self._no_main("")
            self._look(())

    def _late(self, more: float = 0.0) -> bool:
        return time.monotonic() - self._began > LIMIT_SECONDS + more

    def _look(self, missing: tuple[int, ...]) -> None:
        self._report(Awaited(self._rank, self._size, self._address, self._port, missing, self._since))
        time.sleep(LOOK_SECONDS)

    def _missing(self, missing: tuple[int, ...]) -> InputError:
        seconds = round(time.monotonic() - self._began)
        return InputError("meeting_incomplete", absent=some(map(str, missing)), ranks=self._size, seconds=seconds)

    def _no_main(self, why: str) -> InputError:
        place: dict[str, Value] = {"address": self._address, "port": self._port}
        return InputError("meeting_failed", rank=self._rank, node=host_name(), why=why or TIMED_OUT, **place)
