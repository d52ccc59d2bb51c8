"""The table of actions, from which keys, footer, help and palette are made."""

import sys
from pathlib import Path

import pytest

from sft_tui.screen import actions
from sft_tui.screen.app import SftTuiApp
from tests.processes import run
from tests.sft_tui.screen.conftest import SCREENS


@pytest.mark.parametrize("scope", SCREENS)
def test_a_key_has_one_action_on_a_screen(scope: str) -> None:
    keys = [key for action in actions.of_scope(scope) for key in action.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("scope", SCREENS)
def test_every_action_of_the_table_has_code(scope: str) -> None:
    for action in actions.of_scope(scope):
        assert hasattr(SCREENS[scope], f"do_{action.name}") or hasattr(SftTuiApp, f"do_{action.name}"), action.name


@pytest.mark.parametrize("command", [["--help"], ["runs"], ["presets"], ["status"]])
def test_commands_without_a_screen_never_load_one(tmp_path: Path, command: list[str]) -> None:
    code = (
        "import sys, contextlib\n"
        f"sys.argv = ['sft-tui', *{command!r}]\n"
        "from sft_tui.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(sorted(name for name in ('textual', 'torch', 'transformers') if name in sys.modules))\n"
    )
    assert run(sys.executable, "-c", code, folder=tmp_path).out.endswith("[]\n")
