"""The lines of the picker."""

import pytest
from hypothesis import given, settings

from engine.contract.glances import DataGlance, ModelGlance
from engine.contract.messages import Message
from sft_tui.candidates import Candidate
from sft_tui.screen.ink import columns
from sft_tui.screen.pick_view import About, name_columns, option_line, what_it_is
from tests.sft_tui.screen.conftest import WIDTHS

FILE = Candidate("data/a.jsonl", "recent", "data/很长的名字\x1b[31m.jsonl")
ROWS = DataGlance("jsonl", 200, True, form="messages", shape="messages", script="Han")
MODEL = ModelGlance("smol", "llama", "causal", 134_515_008, "bf16", 1, True, True)


@settings(max_examples=25, deadline=None)
@given(width=WIDTHS)
def test_a_line_is_as_wide_as_asked_for(width: int) -> None:
    line = option_line(FILE, ROWS, name_columns([FILE], width), width, "zh")
    assert columns(line) == width
    assert "\x1b" not in "".join(text for text, _ in line)


def test_a_line_says_what_it_is_and_from_where() -> None:
    text = "".join(part for part, _ in option_line(FILE, ROWS, 44, 100, "en"))
    assert "200 conversations · Chinese" in text
    assert text.endswith("recent")


@pytest.mark.parametrize(("candidate", "about", "words"), [
    (Candidate("m", "here", "m", folder=True), MODEL, "134.5 M · llama · chat template"),
    (Candidate("o/m", "hub", "o/m"), None, "enter downloads it"),
    (Candidate("d", "folder", "d/", folder=True, fits=False), None, "folder"),
    (Candidate("m.gguf", "file", "m.gguf"), None, "GGUF file, to be converted"),
    (Candidate("x", "demo", "x"), None, "134.5 M · llama · chat template; 93 MB to download, once"),
    (Candidate("x", "file", "x"), Message.of("source_unreadable", path="x", why="no"), "Cannot"),
])  # fmt: skip
def test_what_a_candidate_is(candidate: Candidate, about: About, words: str) -> None:
    said = what_it_is(candidate, about, "en")
    assert said == words or (isinstance(about, Message) and said)
