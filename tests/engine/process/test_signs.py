"""Who is silent, and whether all stand still, by signs and a clock that the tests choose."""

import pytest

from engine.process.signs import GONE, HALTED, LEAST_SECONDS, Signs, Silence, Standstill, longest_exchange, sign


def test_a_rank_is_silent_if_its_counter_stands_still() -> None:
    signs = Signs([1, 2], 0.0)
    for now in range(1, 60):
        signs.read(1, str(now), float(now))
        signs.read(2, "7", float(now))
        assert signs.silent(float(now), 40.0) == (Silence(2, now - 1.0) if now > 41 else None)


def test_a_rank_that_is_heard_again_is_not_silent() -> None:
    signs = Signs([1], 0.0)
    assert signs.silent(9.0, 8.0) == Silence(1, 9.0)
    signs.read(1, "1", 9.5)
    assert signs.silent(10.0, 8.0) is None


def test_a_rank_that_ended_in_order_is_not_missed() -> None:
    signs = Signs([1], 0.0)
    signs.read(1, GONE, 1.0)
    assert [signs.silent(float(now), 8.0) for now in range(2, 60, 5)] == [None] * 12


def test_a_rank_has_lived_on_if_a_second_sign_was_read_since() -> None:
    """The first may have been given before: it is read up to two seconds later."""
    signs = Signs([1, 2], 0.0)
    for now, both in ((1.0, False), (3.0, False), (5.0, True)):
        signs.read(1, str(now), now)
        signs.read(2, str(now), now)
        assert signs.all_live_since(2.0) == both
    signs.read(1, "more", 9.0)
    signs.read(1, "and more", 11.0)
    assert not signs.all_live_since(6.0)
    signs.read(2, GONE, 12.0)
    assert signs.all_live_since(6.0)
    signs.read(1, f"7{HALTED}", 13.0)
    assert signs.all_live_since(12.5)  # it was stopped too, and may end before it gives another


def test_a_late_answer_tells_nothing_after_its_question() -> None:
    """The sign in it is as old as the question; for silence, what counts is when it was heard."""
    signs = Signs([1], 0.0)
    signs.read(1, "1", 9.0, asked=2.0)
    signs.read(1, "2", 11.0, asked=9.0)
    assert (signs.all_live_since(1.0), signs.all_live_since(5.0)) == (True, False)
    assert signs.silent(18.0, 8.0) is None


def test_a_late_answer_still_tells_who_ended() -> None:
    """In order, or because it was stopped too: that does not depend on when it was asked."""
    signs = Signs([1, 2], 0.0)
    signs.read(1, GONE, 9.0, asked=2.0)
    signs.read(2, f"7{HALTED}", 9.0, asked=2.0)
    assert signs.all_live_since(5.0)


def test_of_several_late_answers_one_is_no_proof_for_another_rank() -> None:
    signs = Signs([1, 2], 0.0)
    for said, now, asked in (("1", 3.0, 1.0), ("2", 9.0, 8.0), ("3", 11.0, 10.0)):
        signs.read(1, said, now, asked)
        signs.read(2, said if said != "3" else "2", now, asked)
    assert (signs.all_live_since(0.5), signs.all_live_since(2.0)) == (True, False)


def test_a_process_that_was_suspended_blames_nobody() -> None:
    signs = Signs([1], 0.0)
    assert signs.silent(1.0, 40.0) is None
    assert signs.silent(3600.0, 40.0) is None  # it did not look for an hour
    looks = [signs.silent(3600.0 + second, 40.0) for second in range(1, 42)]
    assert looks == [None] * 40 + [Silence(1, 41.0)]


def standing(signs: Signs, now: float, own: int = 4, **said: str) -> Standstill | None:
    """What is found after these ranks gave a sign."""
    for name, words in said.items():
        signs.read(int(name[1:]), words, now)
    return signs.standstill(own, now)


def test_all_ranks_in_one_exchange_stand_still_from_when_that_was_seen() -> None:
    signs = Signs([1, 2], 0.0)
    assert standing(signs, 1.0, r1=sign(1, 4), r2=sign(1)) is None
    assert standing(signs, 2.0, r1=sign(2, 4), r2=sign(2, 4)) == Standstill(0.0)
    assert standing(signs, 9.0, r1=sign(3, 4), r2=sign(3, 4)) == Standstill(7.0)


@pytest.mark.parametrize("other", [sign(5), sign(5, 5), sign(5, 3), GONE, "", "x", "5 4 a"])
def test_a_rank_elsewhere_ends_a_standstill(other: str) -> None:
    signs = Signs([1, 2], 0.0)
    standing(signs, 1.0, r1=sign(1, 4), r2=sign(1, 4))
    assert standing(signs, 2.0, r2=other) is None
    assert standing(signs, 3.0, own=0, r2=sign(6, 4)) is None


def test_the_next_exchange_is_timed_again() -> None:
    signs = Signs([1], 0.0)
    standing(signs, 1.0, r1=sign(1, 4))
    assert standing(signs, 8.0, own=5, r1=sign(2, 5)) == Standstill(0.0)


def test_a_rank_0_that_was_suspended_times_a_standstill_again() -> None:
    signs = Signs([1], 0.0)
    standing(signs, 1.0, r1=sign(1, 4))
    assert standing(signs, 500.0) == Standstill(0.0)
    assert standing(signs, 505.0) == Standstill(5.0)


def test_each_side_of_a_broken_connection_names_the_same_pair() -> None:
    signs = Signs([1, 2, 3], 0.0)
    found = standing(signs, 1.0, r1=sign(1, 4, {3}), r2=sign(1, 4), r3=sign(9, 4, {1, 2}))
    assert found is not None
    assert found.pairs == ((1, 3), (2, 3))
    found = signs.standstill(4, 2.0, {3})
    assert found is not None
    assert found.pairs == ((0, 3), (1, 3), (2, 3))


def test_a_sign_names_at_most_as_many_ranks_as_are_read() -> None:
    signs = Signs([1], 0.0)
    found = standing(signs, 1.0, r1=sign(10**18, 4, range(2, 10_000)))
    assert found is not None
    assert len(found.pairs) == 16


def test_a_rank_that_computes_names_no_connection() -> None:
    assert (sign(7, 0, {3}), sign(7, 4, {3, 1}), sign(7, 4)) == ("7", "7 4 1,3", "7 4")


@pytest.mark.parametrize(("expected", "limit"), [(0.0, LEAST_SECONDS), (2.0, LEAST_SECONDS), (60.0, 1800.0)])
def test_the_limit_grows_with_what_the_network_needs(expected: float, limit: float) -> None:
    assert longest_exchange(expected) == limit
