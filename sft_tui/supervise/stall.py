"""Finds the rank that has stopped making progress, with limits learnt from earlier times in each phase.

Pure: heartbeats and time are passed in. Time in which the supervisor did not run (the machine slept, the supervisor
was suspended) is not counted against a rank.
"""

from dataclasses import dataclass, field

LONGEST_TICK = 2.0  # most seconds that one look counts
BEAT_SECONDS = 2.5  # between two heartbeats, with slack
MARGIN = 10.0  # a phase may take this many times its longest stretch without progress so far


@dataclass
class _Rank:
    phase: str = "starting"
    progress: int = -1
    waiting: bool = False
    still: float = 0.0  # seconds without progress
    silent: float = 0.0  # seconds without a heartbeat


@dataclass(frozen=True)
class Overdue:
    """A rank beyond its limit: how long it made no progress, and whether its heartbeats still arrive."""

    rank: int
    phase: str
    seconds: float
    silent: bool


@dataclass
class Watch:
    """The ranks of an attempt and how long each has made no progress; `floor` is the least limit in seconds."""

    floor: float
    ranks: dict[int, _Rank] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)  # by phase

    def beat(self, rank: int, phase: str, progress: int, *, waiting: bool) -> None:
        """Records a heartbeat."""
        one = self.ranks.setdefault(rank, _Rank())
        one.silent = 0.0
        if progress != one.progress or phase != one.phase:
            # Progress is only known at heartbeats: a rank that seems to stand still for one beat may have moved on.
            self.longest[one.phase] = max(self.longest.get(one.phase, 0.0), one.still - BEAT_SECONDS)
            one.still = 0.0
        one.phase, one.progress, one.waiting = phase, progress, waiting

    def pass_time(self, seconds: float) -> None:
        """Adds elapsed time to all ranks."""
        for one in self.ranks.values():
            one.still += min(seconds, LONGEST_TICK)
            one.silent += min(seconds, LONGEST_TICK)

    def limit(self, phase: str) -> float:
        """Seconds that a rank may be without progress in a phase."""
        return max(self.floor, MARGIN * self.longest.get(phase, 0.0))

    def overdue(self, share: float = 1.0) -> Overdue | None:
        """The rank to blame for a stall, if any: never one that waits for another; with a share of the limits."""
        late = [(number, one) for number, one in self.ranks.items() if one.still > share * self.limit(one.phase)]
        # A rank without heartbeats may have been waiting at its last one; now the others wait for it.
        silent = [pair for pair in late if pair[1].silent > share * self.floor]
        busy = [pair for pair in late if not pair[1].waiting]
        everyone = late if len(late) == len(self.ranks) else []
        for number, one in (*silent, *busy, *everyone):
            return Overdue(number, one.phase, one.still, one.silent > share * self.floor)
        return None
