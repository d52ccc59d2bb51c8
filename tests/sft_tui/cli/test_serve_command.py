"""The command for the browser where what it needs is missing; tests/sft_tui/serving has it with a server."""

import sys

import pytest
from click.testing import CliRunner

from engine.contract.messages import InputError
from sft_tui.cli import main


def test_without_its_packages_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sft_tui.serving.browser_server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.setattr("sft_tui.serving.browser_server", None, raising=False)
    monkeypatch.delattr("sft_tui.serving.browser_server", raising=False)
    error = CliRunner().invoke(main.cli, ["serve"]).exception
    assert isinstance(error, InputError)
    assert "sft-tui[serve]" in error.message.text("en")
