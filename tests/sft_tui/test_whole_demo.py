"""The demo from beginning to end: what it is to show has to happen in it."""

import json
from pathlib import Path

import pytest

from tests.processes import SFT_TUI, end_runs, run

ENV = {"ACCELERATE_USE_CPU": "true"}


def losses(folder: Path, *command: str) -> list[float]:
    """Validation losses that a command prints."""
    reported = run(*SFT_TUI, *command, "--json", folder=folder, env=ENV)
    assert reported.code == 0, reported.err
    events = [json.loads(line) for line in reported.out.splitlines()]
    return [event["loss"] for event in events if event["kind"] == "eval"]


@pytest.mark.slow
def test_the_demos_fine_tuning_lowers_the_validation_loss(tmp_path: Path) -> None:
    pytest.importorskip("chatterbot_corpus", reason="NOT TESTED: chatterbot-corpus is not installed")
    try:
        reported = run(*SFT_TUI, "demo", "--t5", "--no-ui", folder=tmp_path, env=ENV, limit=600)
    finally:
        end_runs(tmp_path)
    assert reported.code == 0, reported.err
    base, first, second, third = losses(tmp_path, "logs", "demo-t5-1")
    assert base > first > second > third
    assert reported.out.count("▸ ") == 5
    assert "BEFORE" in reported.out
    assert "perplexity" in reported.out
