"""The presets of the launch screen, and what runs have left in their folders."""

from pathlib import Path

import pytest

from sft_tui.screen import preset_states


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_own_presets_come_first_and_the_chosen_one_may_be_anywhere() -> None:
    for path in (Path("presets/shop.toml"), Path("deep/own.toml")):
        path.parent.mkdir()
        path.write_text("epochs = 7")
    found = preset_states.read(Path("logs"), "deep/own.toml")
    assert next(iter(found.presets)) == "shop"
    assert found.presets["deep/own.toml"].config.epochs == 7
    assert found.offer_demo
    assert found.resumable == {}
    assert "deep/own.toml" not in preset_states.read(Path("logs"), "sft-small").presets


def test_a_chosen_preset_that_is_gone_is_not_listed() -> None:
    assert "gone" not in preset_states.read(Path("logs"), "gone").presets
