"""Commands in advice, and the keys for them."""

from typing import Any

import pytest

from engine.contract.messages import Message
from sft_tui.screen import actions, fix_keys


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("sft-tui resume sft-small-2", "r"),
        ("sft-tui resume 'my run' --logs '/a b'", "r"),
        ("sft-tui resume sft-small-2 --apply-fix", "f"),
        ("sft-tui resume sft-small-2 --epochs N", "E"),
        ("sft-tui run sft-small --learn_rate 3e-5 --fresh", "a"),
        ("sft-tui stop sft-small-2", "s"),
        ("sft-tui logs --trainer", "o"),
        ("sft-tui reply --model model_save/x/best 'hello'", "i"),
    ],
)
def test_a_command_becomes_its_key(command: str, key: str) -> None:
    assert fix_keys.with_keys(f"Do `{command}`, then wait.") == f"Do `{key}`, then wait."


@pytest.mark.parametrize(
    "command",
    [
        "sft-tui resume sft-small-2 --force",
        "sft-tui resume r --epochs 9 --learn_rate RATE --force",
        "sft-tui run sft-small",
        "sft-tui",
        "sft-tui resume 'unclosed",
        "rm -r x",
        "sft-tui attach x",
    ],
)
def test_a_command_without_a_key_stays(command: str) -> None:
    assert fix_keys.with_keys(f"Do `{command}`.") == f"Do `{command}`."


def test_advice_of_a_certificate_names_a_key() -> None:
    args: dict[str, Any] = {
        "step": 5,
        "steps_total": 10,
        "checkpoint": "c",
        "resume_option": "sft-tui resume sft-small-2",
    }
    assert fix_keys.with_keys(Message("ended_stopped", args).fix()) == "Resume with `r`."
    again = {"phase": "tokenizing", "fresh_option": "sft-tui run sft --epochs 2 --fresh"}
    assert fix_keys.with_keys(Message("ended_orphaned_again", again).fix()) == "Start it again with `a`."


def test_the_keys_are_those_of_the_screen_of_a_run() -> None:
    taken = {key for action in actions.of_scope(actions.RUN) for key in action.keys}
    named = {key for of in fix_keys.KEYS.values() for key in of.values()} | {fix_keys.START_OVER}
    assert named <= taken
