"""Which model is meant, and prompts of which none knows the others."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.conversing import Replied
from engine.contract.durable import write_json
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from sft_tui import replies


class Echo:
    """A conversation with a model that repeats each turn, with its number."""

    def __init__(self) -> None:
        self.turns = 0

    def change(self, _request: object) -> None:
        """Forgets all turns."""
        self.turns = 0

    def reply(self, text: str) -> Replied:
        """Repeats the turn."""
        self.turns += 1
        return Replied(f"{text} {self.turns}", "end", 2, 0.5, 3)


def test_each_prompt_is_the_first_of_a_conversation() -> None:
    echo: Any = Echo()
    assert [replies.alone(echo, prompt).text for prompt in ("a", "b")] == ["a 1", "b 1"]


def test_a_record_has_the_prompt_the_reply_and_its_account() -> None:
    assert replies.as_record("a", Echo().reply("a")) == {
        "prompt": "a", "reply": "a 1", "ended": "end", "tokens": 2, "seconds": 0.5, "prompt_tokens": 3, "left_out": 0,
        "cut": False,
    }  # fmt: skip


@pytest.mark.parametrize("place", ["model", "out/best"])
def test_a_model_is_meant_by_its_folder_or_that_above_it(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "config.json").write_text("{}")
    named = tmp_path / place.removesuffix("/best")
    assert replies.model_named(str(named), tmp_path / "logs") == str(tmp_path / place)


def test_a_folder_that_is_no_model_is_left_to_the_engine_to_judge(tmp_path: Path) -> None:
    assert replies.model_named(str(tmp_path), tmp_path / "logs") == str(tmp_path)


def test_what_is_neither_model_nor_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        replies.model_named("absent", tmp_path / "logs")
    assert refused.value.message.code == "reply_missing"


@pytest.mark.parametrize("named", ["out", "out/best", "out/best/"])
def test_a_best_model_gets_the_template_options_it_learned_with(tmp_path: Path, named: str) -> None:
    best = tmp_path / "out/best"
    best.mkdir(parents=True)
    (best / "config.json").write_text("{}")
    write_json(OutputDir(best.parent).owner_file, {"run": "chat-1", "config": {"template_options": "thinking=false"}})
    assert replies.template_options_of(replies.model_named(str(tmp_path / named), tmp_path)) == "thinking=false"


@pytest.mark.parametrize("folder", ["model", "out", "best", "out/best/adapter", "missing/best"])
def test_other_folders_have_no_template_options(tmp_path: Path, folder: str) -> None:
    (tmp_path / "out/best/adapter").mkdir(parents=True)
    write_json(OutputDir(tmp_path / "out").owner_file, {"run": "chat-1", "config": {"template_options": "a=1"}})
    assert replies.template_options_of(str(tmp_path / folder)) == ""
