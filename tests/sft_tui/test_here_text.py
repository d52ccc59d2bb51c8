"""What lies here, in words."""

from dataclasses import replace
from typing import get_args

import pytest

from engine.contract.glances import DataGlance
from engine.contract.messages import Message
from engine.contract.texts import Lang
from sft_tui import here_text
from sft_tui.found import Found, ModelPlace, Progress
from sft_tui.next_steps import next_steps
from sft_tui.text import width
from tests.sft_tui.test_next_steps import BEST, DATA, FINISHED, MODEL, QUEUE, STOPPED

EVERYTHING = Found(DATA, (MODEL, BEST, ModelPlace("m.gguf", "gguf")), (STOPPED, FINISHED), queue=QUEUE, left_out=3)


@pytest.mark.parametrize(("glance", "words"), [
    (DataGlance("jsonl", 2140, True, form="messages", shape="messages", script="Han"), "2,140 conversations · Chinese"),
    (DataGlance("csv", 310, True, columns=("问题", "回答")), "310 rows · 问题, 回答"),
    (DataGlance("jsonl", 2_000_000, False, shape="prompt/response"), "about 2,000,000 rows"),
    (DataGlance("csv", 1, True, columns=("\x1b[31mred", "b", "c", "d", "e")), "1 row · ␛[31mred, b, c, d…"),
    (None, "…"),
])  # fmt: skip
def test_data_is_named_by_what_it_holds(glance: DataGlance | None, words: str) -> None:
    assert here_text.data_words(glance, "en") == words


def test_a_file_that_cannot_be_read_says_why() -> None:
    about = Message.of("source_unreadable", path="a.csv", why="Permission denied")
    assert "Permission denied" in here_text.data_words(about, "en")


@pytest.mark.parametrize("lang", get_args(Lang))
def test_every_step_and_thing_has_words(lang: Lang) -> None:
    for found in (EVERYTHING, Found(), Found(DATA), Found((), (), (), Progress("first", False))):
        for step in next_steps(found):
            label, detail = here_text.step_words(step, found, lang)
            assert label
            assert detail
            assert "{" not in label + detail
            assert "step." not in label


def test_a_run_that_starts_has_no_steps_yet() -> None:
    found = Found((), (), (replace(STOPPED, state="running", step=0, steps_total=0),))
    assert here_text.run_words(found.runs[0], "en") == "starting"
    assert here_text.step_words(next_steps(found)[0], found, "en") == ("Watch mine-3", "It is starting.")


def test_lines_name_everything_with_its_command() -> None:
    text = "\n".join(here_text.lines(EVERYTHING, next_steps(EVERYTHING), 0, "en"))
    for part in ("chats.jsonl", "models/smol", "134.5 M · llama · chat template", "best of mine-1", "mine-3", "61 %",
                 "… and 3 more", "1 Resume mine-3", "sft-tui resume mine-3"):  # fmt: skip
        assert part in text
    assert all(width(line) <= 60 for line in here_text.lines(EVERYTHING, next_steps(EVERYTHING), 60, "zh"))


def test_json_has_what_is_known_and_the_commands() -> None:
    found = here_text.to_json(EVERYTHING, next_steps(EVERYTHING))
    assert found["data"][0]["about"]["rows"] == 100
    assert found["models"][2] == {"path": "m.gguf", "about": None, "error": None, "kind": "gguf", "run": None}
    assert found["next"][0] == {"what": "resume", "subject": "mine-3", "command": "sft-tui resume mine-3"}
