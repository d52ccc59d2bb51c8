"""Prompts of held-out rows that the training file lacks."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import LONGEST_PROMPT
from engine.contract.messages import InputError
from engine.inspecting import held_out_prompts as module
from engine.inspecting.held_out_prompts import held_out_prompts
from tests.engine.inspecting.asked import answer


def pairs(path: Path, *prompts: str) -> str:
    """A file of pairs with these prompts."""
    pq.write_table(pa.table({"prompt": prompts, "response": ["yes"] * len(prompts)}), path)
    return str(path)


def chats(path: Path, *conversations: list[str]) -> str:
    """A file of conversations, whose turns are the user's and the model's."""
    roles = ("user", "assistant")
    rows = [[{"role": roles[at % 2], "content": text} for at, text in enumerate(said)] for said in conversations]
    pq.write_table(pa.table({"messages": rows}), path)
    return str(path)


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports no progress."""
    monkeypatch.setattr(module, "send", lambda **_: None)


def test_prompts_of_the_training_file_are_left_out_and_each_is_asked_once(tmp_path: Path) -> None:
    held = pairs(tmp_path / "v.parquet", "a", "b", " b ", "c", "d" * (LONGEST_PROMPT + 1))
    config = RunConfig(train_file=pairs(tmp_path / "t.parquet", "c\n", "x"), test_file=held)
    facts = held_out_prompts(config, "test_file", 20, 0)
    assert sorted(facts.prompts) == ["a", "b"]
    assert (facts.found, facts.trained, facts.too_long, facts.compared) == (4, 1, 1, True)


def test_conversations_are_compared_by_all_that_users_say(tmp_path: Path) -> None:
    held = chats(tmp_path / "v.parquet", ["你好", "好"], ["later?", "yes"], ["new", "yes", "more", "no"])
    config = RunConfig(train_file=chats(tmp_path / "t.parquet", ["你好", "好", "later?", "no"]), test_file=held)
    facts = held_out_prompts(config, "test_file", 20, 0)
    assert facts.prompts == ("new",)
    assert facts.trained == 2


def test_the_seed_decides_which_prompts_come(tmp_path: Path) -> None:
    held = pairs(tmp_path / "v.parquet", *map(str, range(200)))
    config = RunConfig(train_file="", test_file=held)
    found = [held_out_prompts(config, "test_file", 20, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert len(set(found[0].prompts)) == 20
    assert set(found[0].prompts) != set(found[2].prompts)
    assert not found[0].compared


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        held_out_prompts(RunConfig(test_file=str(tmp_path / "none.parquet")), "test_file", 20, 0)


def test_the_app_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    config = RunConfig(train_file="", test_file=pairs(tmp_path / "v.parquet", "a"))
    found: Any = answer("prompts", config, setting="test_file", count=20, seed=0)
    assert found["prompts"] == ["a"]
