"""How a queue changes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.bounds import as_json, read_as
from engine.contract.messages import InputError, Message
from sft_tui.queue import entries
from sft_tui.queue.entries import MOST_ENTRIES, Queue


def queue_of(*states: str) -> Queue:
    """A queue whose entries, numbered from 1, have these states."""
    queue = Queue()
    for state in states:
        queue = entries.added(queue, "sft-small", {"epochs": 2})
        queue = entries.changed(queue, queue.following - 1, state=state)
    return queue


def numbers(queue: Queue) -> list[int]:
    return [entry.number for entry in queue.entries]


def test_an_entry_is_named_by_a_number_that_is_never_given_twice() -> None:
    queue = entries.removed(queue_of("waiting", "waiting"), 2)
    assert numbers(entries.added(queue, "sft", {})) == [1, 3]


@pytest.mark.parametrize(
    ("number", "place", "order"),
    [(3, 1, [1, 3, 2, 4]), (4, 1, [1, 4, 2, 3]), (2, 3, [1, 3, 4, 2]), (2, 99, [1, 3, 4, 2])],
)
def test_a_waiting_entry_moves_to_a_place(number: int, place: int, order: list[int]) -> None:
    queue = queue_of("running", "waiting", "waiting", "waiting")
    assert numbers(entries.moved(queue, number, place)) == order


def test_an_entry_that_runs_is_neither_moved_nor_removed() -> None:
    queue = queue_of("running", "waiting")
    with pytest.raises(InputError, match="is not waiting"):
        entries.moved(queue, 1, 1)
    with pytest.raises(InputError, match="is running as"):
        entries.removed(queue, 1)
    with pytest.raises(InputError, match="no entry 7"):
        entries.removed(queue, 7)


def test_the_next_is_the_first_that_waits_and_only_if_nothing_runs() -> None:
    queue = queue_of("done", "waiting", "waiting")
    now, entry = entries.taken(queue)
    assert entry is not None
    assert (entry.number, entry.state) == (2, "checking")
    assert [one.state for one in now.entries] == ["done", "checking", "waiting"]
    again, same = entries.taken(now)  # its process was killed while it checked
    assert (again, same) == (now, entry)
    assert entries.taken(entries.with_pause(queue))[1] is None
    running = queue_of("running", "waiting")
    assert entries.taken(running) == (running, running.entries[0])


def test_a_full_queue_forgets_what_is_over_and_nothing_that_waits() -> None:
    full = Queue(queue_of(*["waiting"] * 3).entries * (MOST_ENTRIES // 3 + 1), following=4)
    full = replace(full, entries=full.entries[:MOST_ENTRIES])
    with pytest.raises(InputError, match="takes no more"):
        entries.added(full, "sft", {})
    over = replace(full, entries=(replace(full.entries[0], number=900, state="done"), *full.entries[1:]))
    assert 900 not in numbers(entries.added(over, "sft", {}))


STATES = st.sampled_from(["waiting", "checking", "starting", "running", "done", "refused"])


@settings(max_examples=25, deadline=None)
@given(st.lists(STATES, max_size=8), st.data())
def test_no_move_loses_an_entry(states: list[str], data: st.DataObject) -> None:
    queue = queue_of(*states)
    movable = [entry.number for entry in queue.waiting]
    if not movable:
        return
    number, place = data.draw(st.sampled_from(movable)), data.draw(st.integers(-2, 12))
    moved = entries.moved(queue, number, place)
    assert sorted(numbers(moved)) == sorted(numbers(queue))
    assert entries.place_of(moved, number) == min(max(place, 1), len(movable))
    assert entries.shifted(moved, number, 0) == moved


def test_a_queue_is_read_as_it_was_written() -> None:
    queue = entries.with_pause(queue_of("waiting", "done"), Message.of("queue_run_stopped", run="sft-1"))
    queue = entries.changed(queue, 2, message=Message.of("queue_check", errors=1, found="x", found_zh="y"))
    read = read_as(Queue, as_json(queue))
    assert as_json(read) == as_json(queue)


@pytest.mark.parametrize(
    "values", [{"epochs": "many"}, {"no_setting": 1}, {"notify": "touch here"}, {"epochs": [1]}], ids=str
)
def test_values_that_are_no_settings_are_not_read(values: dict[str, object]) -> None:
    damaged = as_json(queue_of("waiting"))
    damaged["entries"][0]["values"] = values
    with pytest.raises((ValueError, TypeError)):
        read_as(Queue, damaged)
