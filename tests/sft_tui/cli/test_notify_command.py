"""The command about notices."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sft_tui import notifying
from sft_tui.cli import main, notify_command


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(notify_command, "LANG", "en")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(notifying.VARIABLE, raising=False)


def test_it_says_how_to_turn_them_on(tmp_path: Path) -> None:
    result = CliRunner().invoke(main.cli, ["notify"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(tmp_path / "sft-tui" / "notify.toml") in result.stderr


def test_a_test_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notifying.VARIABLE, f"touch {tmp_path / 'sent'}")
    assert CliRunner().invoke(main.cli, ["notify"]).stdout == f"touch {tmp_path / 'sent'}\n"
    assert not (tmp_path / "sent").exists()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main.cli, ["notify", "--test"])
    assert "was sent" in result.stderr
    assert (tmp_path / "sent").exists()
