"""The run to check, with what a rehearsal found for it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine.contract.presets import preset
from sft_tui.preflight.fix import Command
from sft_tui.preflight.request import CheckRequest

CONFIG = preset("sft-small").config


def request(logs: str = "logs", **values: Any) -> CheckRequest:
    return CheckRequest.of("sft-small", values, dataclasses.replace(CONFIG, **values), Path(logs))


def test_without_a_rehearsal_the_settings_are_those_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = request(epochs=5)
    assert found.rehearsal is None
    assert found.asked == found.config == dataclasses.replace(CONFIG, epochs=5)


def test_the_start_and_a_change_keep_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = request(epochs=5)
    assert found.start.values == {"epochs": 5}
    assert found.changed(learn_rate=1e-4).changes == {"learn_rate": 1e-4}
    assert found.changed(learn_rate=1e-4).values == {"epochs": 5}


@pytest.mark.parametrize(("logs", "words"), [("logs", ()), ("elsewhere", ("--logs", "elsewhere"))])
def test_the_rehearsal_names_only_unusual_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert request(logs, epochs=5).rehearse == Command(("rehearse", "sft-small", *words, "--epochs", "5"))
