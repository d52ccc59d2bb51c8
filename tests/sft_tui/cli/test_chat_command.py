"""The command that opens a chat."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sft_tui.cli import chat_command, main


def test_the_screen_is_opened_on_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(chat_command, "show_screen", lambda *_, **how: opened.append((how["chat"], how["run"])))
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    base, tuned = (str(tmp_path / name) for name in ("base", "tuned"))
    assert CliRunner().invoke(main.cli, ["chat", tuned, "--with", base]).exit_code == 0
    assert CliRunner().invoke(main.cli, ["chat", tuned]).exit_code == 0
    assert opened == [([base, tuned], ""), ([tuned], "")]


def test_a_model_that_is_missing_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(main.cli, ["chat", "missing", "--logs", str(tmp_path)])
    assert "missing" in str(found.exception)
