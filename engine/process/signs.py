"""What the signs of the ranks on other machines say: which of them is silent, and whether all stand still together.

Pure: every question comes with the time. A sign is a text: a counter; behind it the number of the exchange in which the
rank waits for others, if it does; behind that the ranks that have stopped to answer it, as far as it can tell.

*All stand still.* A connection that fails between two machines, neither of which runs rank 0, silences nobody: signs go
through the store of rank 0. TCP gives such a connection up after some 15 minutes. Sooner than that it shows in this:
every rank waits in the same exchange, and none gets through. A slow network must never be taken for that:

- Exchanges are numbered, and all ranks go through them in one order. Once each rank is in exchange k, none is waited
  for because it computes, reads or writes a file: what is left is to move the bytes of this one exchange.
- The largest exchange is the sum of a step's gradients. `exchange.measured` finds what it takes on this network, at
  launch; a network that becomes `SLOWER` times slower than that is still waited for. Of a divided model all exchanges
  of a micro-batch take its place: the host of a GPU runs ahead, and may wait for many of them as if for one.
- The other exchanges are far smaller; for them, and before anything is measured, `LEAST_SECONDS` is the limit. TCP
  sends again what was lost after 0.2, 0.4, 0.8 … s, so a connection that is back after 100 s is tried again 204 s after
  it broke at the latest: the limit is above that.
- On a GPU the host waits for its queue of kernels too, a thousand at most: seconds.
- The time is that of rank 0 alone, from when it first saw all of them there; it begins again if rank 0 was suspended
  or its store did not answer. A rank that is suspended or swaps is silent long before.

Where ranks do not have the same numbers nothing is found here, and TCP decides.
"""

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

PAUSE_SECONDS = 10.0  # a look that comes this late: this process itself was suspended, which proves nothing of others
GONE = "gone"  # the sign of a rank that ended in order
HALTED = " halted"  # behind the counter of a rank that was asked to end, alone, and says so before it does
LEAST_SECONDS, SLOWER = 300.0, 30.0
MOST_UNANSWERED = 16  # ranks that a sign names
SIGN = re.compile(r"\d{1,20}(?: (\d{1,18})(?: (\d{1,7}(?:,\d{1,7}){0,15}))?)?", re.ASCII)
NEVER = float("-inf")


@dataclass(frozen=True)
class Silence:
    """A rank that gives no sign of life, and for how many seconds."""

    rank: int
    seconds: float


@dataclass(frozen=True)
class Standstill:
    """All ranks wait in one exchange, for how many seconds; `pairs`: which ranks get no answer from which others."""

    seconds: float
    pairs: tuple[tuple[int, int], ...] = ()


def sign(count: int, exchange: int = 0, unanswered: Iterable[int] = ()) -> str:
    """The sign of a rank, which waits in this exchange unless it is 0."""
    ranks = ",".join(map(str, sorted(unanswered)[:MOST_UNANSWERED]))
    return " ".join(filter(None, (str(count), str(exchange or ""), ranks if exchange else "")))


def longest_exchange(expected: float) -> float:
    """The seconds that no healthy exchange takes, if the largest takes `expected` at the rate measured at launch."""
    return max(LEAST_SECONDS, SLOWER * expected)


class Signs:
    """When each watched rank last gave a sign of life, by the clock of this process (monotonic seconds)."""

    def __init__(self, ranks: Iterable[int], now: float) -> None:
        self._signs = dict.fromkeys(ranks, "")
        self._at = dict.fromkeys(self._signs, now)
        self._asked = dict.fromkeys(self._signs, NEVER)  # when the last sign was asked for
        self._before = dict.fromkeys(self._signs, NEVER)  # when the sign before the last was asked for
        self._looked_at = now
        self._exchange, self._since, self._stood_at = 0, NEVER, NEVER
        self._one_at_a_time = threading.Lock()

    def read(self, rank: int, said: str, now: float, asked: float | None = None) -> None:
        """Takes in a rank's sign, which came in answer to a question of that time (None: `now`)."""
        with self._one_at_a_time:
            if said == GONE:
                self._at.pop(rank, None)
            elif rank in self._at and self._signs[rank] != said:
                self._before[rank], self._at[rank] = self._asked[rank], now
                self._asked[rank] = now if asked is None else asked
            if rank in self._signs:
                self._signs[rank] = said

    def silent(self, now: float, limit: float) -> Silence | None:
        """The rank that has been silent longest, if for more than `limit` seconds; to be asked about every second."""
        with self._one_at_a_time:
            if now - self._looked_at > PAUSE_SECONDS:
                self._at = dict.fromkeys(self._at, now)
            self._looked_at = now
            rank, at = min(self._at.items(), key=lambda one: one[1], default=(0, now))
        return Silence(rank, now - at) if now - at > limit else None

    def all_live_since(self, at: float) -> bool:
        """Whether each watched rank lived on after that time, but for those that ended in order or say that they do.

        A sign that is asked for after it may have been given before; the next one was not.
        """
        with self._one_at_a_time:
            return all(self._before[rank] > at or self._signs[rank].endswith(HALTED) for rank in self._at)

    def standstill(self, own: int, now: float, unanswered: Iterable[int] = ()) -> Standstill | None:
        """Since when all ranks have been in one exchange; `own`: that of rank 0, 0 if it waits in none.

        `unanswered`: the ranks that do not answer rank 0. To be asked about every second, while the signs are fresh.
        """
        with self._one_at_a_time:
            found = {rank: SIGN.fullmatch(said) for rank, said in self._signs.items()}
            together = own > 0 and all(one is not None and one[1] == str(own) for one in found.values())
            exchange = own if together else 0
            if exchange != self._exchange or now - self._stood_at > PAUSE_SECONDS:
                self._exchange, self._since = exchange, now
            self._stood_at = now
            named = {0: tuple(unanswered)}
            named |= {rank: tuple(map(int, one[2].split(","))) for rank, one in found.items() if one and one[2]}
            pairs = {(min(rank, other), max(rank, other)) for rank, others in named.items() for other in others}
            return Standstill(now - self._since, tuple(sorted(pairs))) if exchange else None
