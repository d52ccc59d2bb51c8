"""The command that lets a model reply, without a terminal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from engine.contract.conversing import Replied, Sampling
from engine.contract.messages import InputError
from sft_tui import conversation
from sft_tui.cli import main


class Talk:
    """In place of a conversation: counts turns."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, model: str, **how: Any) -> None:
        self.made.append({"model": model, **how})
        self.turns = 0

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.turns = -1

    def change(self, _request: object) -> None:
        """Forgets all turns."""
        self.turns = 0

    def reply(self, text: str) -> Replied:
        """Says which turn this is."""
        if "\udcff" in text:
            raise InputError("prompt_not_text", number=self.turns + 1)
        self.turns += 1
        return Replied(f"{self.turns}: {text}\x1b[31m\n", "end", 2, 0.5)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(conversation, "Conversation", Talk)
    yield str(tmp_path)
    Talk.made.clear()


def said(*words: str, typed: bytes = b"") -> Result:
    return CliRunner().invoke(main.cli, ["reply", *words], input=typed)


def test_prompts_do_not_know_each_other(model: str) -> None:
    assert said("--model", model, "a", "b").output == "1: a␛[31m␊\n1: b␛[31m␊\n"


def test_each_line_of_the_input_is_a_turn_of_one_conversation(model: str) -> None:
    found = said("--model", model, typed="你好\r\n\n  \n/reset\nlast".encode())
    assert found.output.splitlines() == ["1: 你好␛[31m␊", "2: /reset␛[31m␊", "3: last␛[31m␊"]


def test_turns_and_replies_can_be_read_by_a_program(model: str) -> None:
    found = said("--model", model, "--json", typed=b"a\nb\n").output
    assert "\x1b" not in found
    records = [json.loads(line) for line in found.splitlines()]
    assert [(one["prompt"], one["reply"], one["ended"]) for one in records] == [
        ("a", "1: a\x1b[31m\n", "end"),
        ("b", "2: b\x1b[31m\n", "end"),
    ]


def test_bytes_that_are_no_text_are_refused_by_the_number_of_their_turn(model: str) -> None:
    found = said("--model", model, typed=b"a\n\xff\n")
    assert found.output == "1: a␛[31m␊\n"
    assert isinstance(found.exception, InputError)
    assert "Prompt 2" in found.exception.message.what()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"system": "", "max_new_tokens": 256, "sampling": Sampling()}),
        (["--system", "系统", "--max-new-tokens", "7"], {"system": "系统", "max_new_tokens": 7}),
        (["--max_new_tokens", "7"], {"max_new_tokens": 7}),
        (["--temperature", "0.7", "--top_p", "0.9", "--seed", "3"], {"sampling": Sampling(0.7, 0.9, 3)}),
        (["--top-p", "0.5"], {"sampling": Sampling(top_p=0.5)}),
    ],
)
def test_options_reach_the_model(model: str, words: list[str], expected: dict[str, Any]) -> None:
    assert said("--model", model, *words, "a").exit_code == 0
    assert Talk.made[0].items() >= expected.items()
