"""The lines of a conversation: read back as they were written, and nothing else."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import conversing
from engine.contract.conversing import SPOKEN, Spoken, line_of, read_line
from engine.contract.messages import Message

REPLIED = conversing.Replied("yes", "stopped", 3, 0.5, 12, 2, cut=True)
SPOKEN_HERE: list[Spoken] = [
    conversing.Open("model", "You are terse.", 40, conversing.Sampling(0.7, 0.9, 3)),
    conversing.Say("你好\n\x1b[31m\u2028"),
    conversing.Stop(),
    conversing.System(""),
    conversing.Undo(),
    conversing.Reset(),
    conversing.History(("你好", "", "a\n", "b")),
    conversing.Choice(conversing.Sampling(0.5, 1.0, 7), 12),
    conversing.Opened("causal", "chat", 2048),
    conversing.Piece("𠮷"),
    REPLIED,
    conversing.Changed(3),
    conversing.Refused(Message.of("reply_missing", path="x"), fatal=True),
]


@pytest.mark.parametrize("spoken", SPOKEN_HERE, ids=lambda spoken: spoken.kind)
def test_a_line_is_read_as_it_was_written(spoken: Spoken) -> None:
    line = line_of(spoken)
    assert line.isascii()
    assert line.count(b"\n") == 1
    found = read_line(line)
    if isinstance(found, conversing.Refused):
        assert found.message.text() == "There is no model folder x. " + found.message.fix()
    else:
        assert found == spoken


def test_every_kind_of_line_is_tried_here() -> None:
    assert {type(spoken) for spoken in SPOKEN_HERE} == set(SPOKEN.values())


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_said(text: str) -> None:
    assert read_line(line_of(conversing.Say(text))) == conversing.Say(text)


OPEN = json.loads(line_of(SPOKEN_HERE[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "shell"},
        {"kind": None},
        {"kind": ["open"]},
        {"model": "a\0b"},
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**9},
        {"system": 3},
        {"sampling": {"temperature": -0.1}},
        {"sampling": {"temperature": "NaN"}},
        {"sampling": {"top_p": 1.01}},
        {"sampling": {"seed": -1}},
    ],
    ids=repr,
)
def test_a_line_with_a_value_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_line(json.dumps({**OPEN, **change}).encode())


@pytest.mark.parametrize("line", [b"", b"\n", b"[]", b"3", b"\xff", b'{"kind"', b"[" * 100_000])
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises((TypeError, ValueError, RecursionError)):
        read_line(line)


def test_a_time_that_is_no_number_is_refused() -> None:
    replied = json.loads(line_of(REPLIED))
    with pytest.raises((TypeError, ValueError)):
        read_line(json.dumps({**replied, "seconds": math.nan}).encode())
