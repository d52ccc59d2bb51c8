"""Who has stopped making progress: not who waits for another, and not while nobody looked."""

import pytest

from sft_tui.supervise.stall import MARGIN, Overdue, Watch

FLOOR = 10.0


@pytest.fixture
def watch() -> Watch:
    """Two ranks that have just begun to train."""
    one = Watch(FLOOR)
    beat(one, (0, 1), (1, 1))
    return one


def beat(watch: Watch, *progress: tuple[int, int], waiting: int | None = None, phase: str = "training") -> None:
    """Heartbeats of some ranks."""
    for rank, count in progress:
        watch.beat(rank, phase, count, waiting=rank == waiting)


def seconds(watch: Watch, count: int, *beats: tuple[int, int], waiting: int | None = None) -> None:
    """Lets time pass, with heartbeats that come on without progress."""
    for _ in range(count):
        watch.pass_time(1.0)
        beat(watch, *beats, waiting=waiting)


def test_ranks_that_progress_are_not_overdue(watch: Watch) -> None:
    for count in range(100):
        watch.pass_time(1.0)
        beat(watch, (0, count), (1, count))
        assert watch.overdue() is None


def test_the_stuck_rank_is_named_and_not_the_waiting_one(watch: Watch) -> None:
    seconds(watch, 10, (0, 1), (1, 1), waiting=0)
    assert watch.overdue() is None
    seconds(watch, 1, (0, 1), (1, 1), waiting=0)
    assert watch.overdue() == Overdue(1, "training", 11.0, silent=False)


def test_a_rank_without_heartbeat_is_named_even_if_it_waited(watch: Watch) -> None:
    beat(watch, (1, 1), waiting=1)
    seconds(watch, 11, (0, 1), waiting=0)
    assert watch.overdue() == Overdue(1, "training", 11.0, silent=True)


def test_if_all_wait_one_rank_is_named(watch: Watch) -> None:
    for _ in range(11):
        watch.pass_time(1.0)
        for rank in (0, 1):
            watch.beat(rank, "training", 1, waiting=True)
    late = watch.overdue()
    assert late is not None
    assert late.seconds == 11.0


def test_a_phase_that_took_long_before_may_take_long_again(watch: Watch) -> None:
    for rank in (0, 1):
        watch.beat(rank, "saving", 2, waiting=False)
    seconds_in(watch, "saving", 8, 2)
    beat(watch, (0, 3), (1, 3))  # 8 s of saving, of which 2.5 s may be the time between two heartbeats
    assert watch.limit("saving") == pytest.approx(MARGIN * 5.5)
    assert watch.limit("training") == FLOOR
    seconds_in(watch, "saving", 55, 4)
    assert watch.overdue() is None
    seconds_in(watch, "saving", 1, 4)
    assert watch.overdue() is not None


def seconds_in(watch: Watch, phase: str, count: int, progress: int) -> None:
    """Lets time pass in a phase; the first second enters it."""
    for _ in range(count):
        beat(watch, (0, progress), (1, progress), phase=phase)
        watch.pass_time(1.0)


def test_unobserved_time_does_not_count(watch: Watch) -> None:
    watch.pass_time(100_000.0)  # the machine slept
    assert watch.overdue() is None


def test_nothing_is_known_before_the_first_heartbeat() -> None:
    one = Watch(FLOOR)
    one.pass_time(1.0)
    assert one.overdue() is None
