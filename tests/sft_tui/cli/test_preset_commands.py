"""Presets of one's own at the command line."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sft_tui.cli.main import cli


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, ["presets", *words])


def test_a_preset_is_saved_listed_shown_and_replaced() -> None:
    saved = call("save", "shop", "--from", "sft-fast", "--epochs", "2", "--help-text", "answers of a shop")
    assert saved.output == "Saved as presets/shop.toml. Start it with: sft-tui run shop\n"
    assert "answers of a shop (presets/shop.toml)" in call("list").stdout
    assert call("show", "shop", "--toml").output == 'parent = "sft-fast"\nhelp = "answers of a shop"\nepochs = 2\n'
    assert call("save", "shop", "--from", "sft-fast", "--epochs", "3").exception
    assert not call("save", "shop", "--from", "sft-fast", "--epochs", "3", "--overwrite").exception
    assert "epochs = 3" in call("show", "shop", "--toml").output


def test_a_preset_for_all_folders_is_in_the_users_config_folder(here: Path) -> None:
    call("save", "shop", "--user", "--epochs", "2")
    assert (here / "config" / "sft-tui" / "presets" / "shop.toml").is_file()
    assert "shop" in call("list").stdout


def test_an_unreadable_preset_is_named_and_the_others_are_listed(here: Path) -> None:
    (here / "presets").mkdir()
    (here / "presets" / "bad.toml").write_text("epochz = 3")
    (here / "presets" / "loud.toml").write_text('help = "\\u001b[2J"')
    listed = call("list")
    assert "presets/bad.toml: there is no setting named epochz." in listed.stderr
    assert "sft-small" in listed.stdout
    assert "\x1b" not in listed.output


def test_a_preset_is_removed(here: Path) -> None:
    call("save", "shop", "--epochs", "2")
    assert call("remove", "shop").output == "Removed presets/shop.toml.\n"
    assert not (here / "presets" / "shop.toml").exists()
    assert call("remove", "sft").exception
