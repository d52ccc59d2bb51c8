"""Which rank has stopped making progress: limits learnt from what each phase took before.

Pure: it is told of heartbeats and of the time, and asks neither. Time that passed while nobody looked (the machine
slept, the supervisor was stopped) is not counted against a rank.
"""

from dataclasses import dataclass, field

LONGEST_TICK = 2.0  # seconds of one look that count
BEAT_SECONDS = 2.5  # between two heartbeats, and some
MARGIN = 10.0  # a phase may take so many times its longest stretch without progress before


@dataclass
class _Rank:
    phase: str = "starting"
    progress: int = -1
    waiting: bool = False
    still: float = 0.0  # seconds without progress
    silent: float = 0.0  # seconds without a heartbeat


@dataclass(frozen=True)
class Overdue:
    """A rank beyond its limit: for how long it stood still, and whether it still gives signs of life."""

    rank: int
    phase: str
    seconds: float
    silent: bool


@dataclass
class Watch:
    """The ranks of an attempt and how long each has stood still; `floor` is the least limit in seconds."""

    floor: float
    ranks: dict[int, _Rank] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)  # by phase

    def beat(self, rank: int, phase: str, progress: int, *, waiting: bool) -> None:
        """Takes in a heartbeat."""
        one = self.ranks.setdefault(rank, _Rank())
        one.silent = 0.0
        if progress != one.progress or phase != one.phase:
            # Progress is only known when it is told: one beat of standing still may have been none.
            self.longest[one.phase] = max(self.longest.get(one.phase, 0.0), one.still - BEAT_SECONDS)
            one.still = 0.0
        one.phase, one.progress, one.waiting = phase, progress, waiting

    def pass_time(self, seconds: float) -> None:
        """Lets time pass for all ranks."""
        for one in self.ranks.values():
            one.still += min(seconds, LONGEST_TICK)
            one.silent += min(seconds, LONGEST_TICK)

    def limit(self, phase: str) -> float:
        """Seconds a rank may stand still in a phase."""
        return max(self.floor, MARGIN * self.longest.get(phase, 0.0))

    def overdue(self) -> Overdue | None:
        """The rank that is to blame for a standstill, if there is one: not one that waits for another."""
        late = [(number, one) for number, one in self.ranks.items() if one.still > self.limit(one.phase)]
        # A rank without a heartbeat may have been waiting when it was last heard; it is the others' hold-up now.
        silent = [pair for pair in late if pair[1].silent > self.floor]
        busy = [pair for pair in late if not pair[1].waiting]
        everyone = late if len(late) == len(self.ranks) else []
        for number, one in (*silent, *busy, *everyone):
            return Overdue(number, one.phase, one.still, one.silent > self.floor)
        return None
