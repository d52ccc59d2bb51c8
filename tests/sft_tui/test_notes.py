"""Notes about runs: what may be noted, and a file that anybody may have written."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from sft_tui import notes
from sft_tui.notes import LONGEST_TAG, LONGEST_TEXT, MOST_TAGS, Note


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_a_note_is_read_back(run_dir: RunDir) -> None:
    note = Note("learns faster than 第一次", ["baseline", "低学习率"])
    notes.write(run_dir, note)
    assert notes.read(run_dir) == note


def test_an_empty_note_leaves_no_file(run_dir: RunDir) -> None:
    notes.write(run_dir, Note("x"))
    notes.write(run_dir, Note())
    assert not run_dir.note.exists()
    assert notes.read(run_dir) == Note()


def test_words_with_a_hash_are_tags() -> None:
    assert notes.parse("  lower rate #baseline  helps #a.b #baseline # ") == Note(
        "lower rate helps #", ["baseline", "a.b"]
    )


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60), st.lists(st.from_regex(notes.TAG, fullmatch=True), max_size=4))
def test_what_a_note_is_typed_as_gives_the_same_note(text: str, tags: list[str]) -> None:
    words = " ".join(word for word in text.split() if not word.startswith("#"))
    note = notes.checked(words, tags)
    assert notes.parse(note.line()) == note


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("x" * (LONGEST_TEXT + 1), "2,001"),
        (" ".join(f"#t{number}" for number in range(MOST_TAGS + 1)), str(MOST_TAGS)),
        ("#a\x1b[31m", "one word"),
        ("#" + "a" * (LONGEST_TAG + 1), str(LONGEST_TAG)),
        ("#-x", "-x"),
    ],
)
def test_a_note_out_of_bounds_is_refused(line: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        notes.parse(line)


@pytest.mark.parametrize(
    "value",
    [
        {"text": 7},
        {"tags": "a"},
        {"tags": [1]},
        {"text": "x" * (LONGEST_TEXT + 1)},
        {"tags": ["a"] * (MOST_TAGS + 1)},
        [],
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_does_not_fit_counts_as_empty(run_dir: RunDir, value: Any) -> None:
    run_dir.note.write_text(json.dumps(value))
    assert notes.read(run_dir) == Note()


def test_a_link_in_the_place_of_a_note_is_not_followed(run_dir: RunDir, tmp_path: Path) -> None:
    target = tmp_path / "mine.json"
    target.write_text('{"text": "x"}')
    run_dir.note.symlink_to(target)
    assert notes.read(run_dir) == Note()
    notes.write(run_dir, Note("noted"))
    assert target.read_text() == '{"text": "x"}'
    assert notes.read(run_dir).text == "noted"
