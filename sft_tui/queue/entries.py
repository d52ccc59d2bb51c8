"""The entries of a queue and how they change, as pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from engine.contract.bounds import REST, Count, Longest, Name, PathText, Positive, Seconds
from engine.contract.config import FIELDS, require_kinds
from engine.contract.messages import InputError, Message
from engine.contract.owner import Id
from engine.contract.project import Project

State = Literal["waiting", "checking", "starting", "running", "done", "refused"]
MOST_ENTRIES = 500
MOST_TRIES = 3  # starts of an entry whose run never wrote anything
OVER: tuple[State, ...] = ("done", "refused")
NEXT: tuple[State, ...] = ("waiting", "checking")


def _settings(values: Mapping[str, Any]) -> None:
    """Raises ValueError if a value is not that of a setting."""
    if not values.keys() <= FIELDS.keys():
        raise ValueError("no setting")
    require_kinds(values)


Settings = Annotated[dict[str, Any], _settings]


@dataclass(frozen=True)
class Entry:
    """A run in the queue: what it is asked to do, and what has become of it."""

    number: Positive  # by which people name it; never given twice
    preset: PathText  # its name or file
    values: Settings = field(default_factory=dict)  # settings over those of the preset
    based_on: Name = ""  # the run that they are from
    state: State = "waiting"
    message: Message | None = None  # why it was refused
    run: Name = ""  # the run that it became
    run_id: Id = ""  # written before that run is started: by it a run is found whose name was not written any more
    tries: Count = 0
    ended: Name = ""  # how the run ended, in a word
    added: Seconds = 0.0  # since the epoch
    project: Project = ""  # the folder to which its paths are relative
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in OVER

    @property
    def may_change(self) -> bool:
        """Whether it can still be moved."""
        return self.state in NEXT


@dataclass(frozen=True)
class Queue:
    """All entries in their order; those that are over come first."""

    entries: Annotated[tuple[Entry, ...], Longest(MOST_ENTRIES)] = ()
    following: Positive = 1  # the number of the next entry
    paused: bool = False
    why: Message | None = None  # why it was paused, if not by the user
    place: PathText = ""  # where it was written, so that a copied or downloaded queue starts nothing
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)

    @property
    def waiting(self) -> list[Entry]:
        """The entries whose turn is to come."""
        return [entry for entry in self.entries if entry.may_change]

    @property
    def checked(self) -> Entry | None:
        """The entry that is being checked before its start; None if there is none."""
        return next((entry for entry in self.entries if entry.state == "checking"), None)

    @property
    def still_waiting(self) -> int:
        """The number of entries of which nothing has begun, not even the check."""
        return sum(entry.state == "waiting" for entry in self.entries)

    @property
    def active(self) -> Entry | None:
        """The entry whose run is being started or is running; None if there is none."""
        return next((entry for entry in self.entries if entry.state in ("starting", "running")), None)

    def entry(self, number: int) -> Entry:
        """The entry with this number; raises InputError."""
        found = next((entry for entry in self.entries if entry.number == number), None)
        if found is None:
            raise InputError("queue_unknown", number=number)
        return found


def added(
    queue: Queue, preset: str, values: Mapping[str, Any], *, based_on: str = "", project: str = "", now: float = 0.0
) -> Queue:
    """The queue with a further entry at its end; raises InputError if it is full."""
    entries = queue.entries
    if len(entries) >= MOST_ENTRIES:
        oldest = next((entry for entry in entries if entry.is_over), None)
        if oldest is None:
            raise InputError("queue_full", most=MOST_ENTRIES)
        entries = tuple(entry for entry in entries if entry is not oldest)
    new = Entry(queue.following, preset, dict(values), based_on, project=project, added=now)
    return replace(queue, entries=(*entries, new), following=queue.following + 1)


def changed(queue: Queue, number: int, **values: Any) -> Queue:
    """The queue with other values of an entry; unchanged if it was removed."""
    return replace(
        queue,
        entries=tuple(replace(entry, **values) if entry.number == number else entry for entry in queue.entries),
    )


def removed(queue: Queue, number: int) -> Queue:
    """The queue without an entry; raises InputError if there is none, or if its run is alive."""
    entry = queue.entry(number)
    if not entry.may_change and not entry.is_over:
        raise InputError("queue_entry_runs", number=number, run=entry.run or entry.preset)
    return replace(queue, entries=tuple(one for one in queue.entries if one.number != number))


def moved(queue: Queue, number: int, place: int) -> Queue:
    """The queue with a waiting entry at a place among those that wait; 1 is the next. Raises InputError."""
    entry = queue.entry(number)
    if not entry.may_change:
        raise InputError("queue_not_waiting", number=number)
    waiting = [one for one in queue.waiting if one is not entry]
    waiting.insert(min(max(place, 1), len(waiting) + 1) - 1, entry)
    return replace(queue, entries=(*(one for one in queue.entries if not one.may_change), *waiting))


def shifted(queue: Queue, number: int, by: int) -> Queue:
    """The queue with a waiting entry some places later; raises InputError."""
    return moved(queue, number, place_of(queue, number) + by)


def place_of(queue: Queue, number: int) -> int:
    """The place of an entry among those that wait, from 1; 0 if it does not wait."""
    return next((place for place, entry in enumerate(queue.waiting, 1) if entry.number == number), 0)


def with_pause(queue: Queue, why: Message | None = None) -> Queue:
    """The queue paused: the run that is running goes its way, and no other is started."""
    return replace(queue, paused=True, why=why)


def without_pause(queue: Queue) -> Queue:
    """The queue as it continues."""
    return replace(queue, paused=False, why=None)


def taken(queue: Queue) -> tuple[Queue, Entry | None]:
    """The entry whose turn it is, and the queue in which it is being checked; None if nothing can be done now.

    An entry that was being checked when the process of the queue was killed is checked again.
    """
    entry = queue.active
    if entry is not None or queue.paused or not queue.waiting:
        return queue, entry
    first = queue.waiting[0]
    over = tuple(one for one in queue.entries if not one.may_change)
    others = [replace(one, state="waiting") for one in queue.waiting[1:]]
    now = replace(first, state="checking")
    return replace(queue, entries=(*over, now, *others)), now
