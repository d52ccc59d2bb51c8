"""A blind comparison: what is shown as A and B, the tally, and its file."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.durable import write_json
from sft_tui import judging
from sft_tui.judging import Comparison, Tally, Trial, in_words, sign_test, summary, tally, trials_of

NAMES = ("smollm2", "mine-3, step 939, best")


def comparison(*preferred: judging.Preferred) -> Comparison:
    """A comparison with these judgements."""
    trials = trials_of([f"prompt {at}" for at in range(len(preferred))], 3)
    judged = tuple(
        replace(one, replies=("x", "y"), preferred=what) for one, what in zip(trials, preferred, strict=True)
    )
    return Comparison(NAMES, judged)


def test_half_of_the_prompts_are_swapped_by_a_seed() -> None:
    trials = trials_of("abcdefghijklmnopqrst", 7)
    assert sum(one.swapped for one in trials) == 10
    assert [one.prompt for one in trials] == list("abcdefghijklmnopqrst")
    assert trials == trials_of("abcdefghijklmnopqrst", 7)
    assert trials != trials_of("abcdefghijklmnopqrst", 8)


@pytest.mark.parametrize(
    ("swapped", "better", "preferred"),
    [(False, "A", "first"), (False, "B", "second"), (True, "A", "second"), (True, "B", "first"), (True, "=", "equal")],
)
def test_a_judgement_is_of_the_model_behind_the_letter(swapped: bool, better: str, preferred: str) -> None:
    trial = Trial("?", swapped, ("of the first", "of the second"))
    assert trial.shown[0] == ("of the second" if swapped else "of the first")
    assert trial.judged(better).preferred == preferred  # type: ignore[arg-type]


def test_the_tally_counts_each_judgement_once() -> None:
    found = comparison("first", "second", "second", "equal", "")
    assert tally(found) == Tally(NAMES, 1, 2, 1, 5)
    assert (found.next, found.over) == (4, False)
    assert comparison("first").over


@pytest.mark.parametrize(
    ("first", "second", "chance"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 22 / 1024), (20, 0, 2 / 2**20)]
)
def test_the_sign_test_has_the_textbook_values(first: int, second: int, chance: float) -> None:
    assert sign_test(first, second) == pytest.approx(chance)


@given(st.integers(0, 100), st.integers(0, 100))
def test_the_sign_test_knows_no_side(first: int, second: int) -> None:
    assert 0 < sign_test(first, second) == sign_test(second, first) <= 1


def test_a_comparison_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, found = tmp_path / "blind.json", comparison("first", "")
    judging.write(path, found)
    assert judging.read(path) == found
    assert summary(path) == Tally(NAMES, 1, 0, 0, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"names": ["a"], "trials": []}', b'{"names": ["a", "b"], "trials": [{"prompt": 1}]}',
     b'{"names": ["a", "b"], "trials": [{"prompt": "x", "swapped": false, "preferred": "both"}]}'],
)  # fmt: skip
def test_a_damaged_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "blind.json").write_bytes(content)
    assert judging.read(tmp_path / "blind.json") is None
    assert summary(tmp_path / "blind.json") is None
    assert summary(tmp_path / "missing") is None


def test_more_trials_than_any_comparison_has_are_refused(tmp_path: Path) -> None:
    trial = {"prompt": "x", "swapped": False}
    write_json(tmp_path / "blind.json", {"names": ["a", "b"], "trials": [trial] * 101})
    assert judging.read(tmp_path / "blind.json") is None


def test_the_words_name_the_better_model_and_the_chance() -> None:
    clear = "\n".join(in_words(Tally(NAMES, 2, 14, 4, 20), "en"))
    assert "mine-3, step 939, best preferred: 14" in clear
    assert "clearly better" in clear
    assert "0.004" in clear
    open_ = "\n".join(in_words(Tally(("a\x1b[31m", "b"), 3, 5, 1, 20), "en"))
    assert "chance" in open_
    assert "9 of 20" in open_
    assert "\x1b" not in open_
    assert "没有一次" in "\n".join(in_words(Tally(NAMES, 0, 0, 4, 4), "zh"))
