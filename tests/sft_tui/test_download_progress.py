"""The progress of a download."""

import sys

import pytest

from sft_tui.download_progress import download_progress


def test_without_a_terminal_there_is_a_line_from_time_to_time(capsys: pytest.CaptureFixture[str]) -> None:
    with download_progress("en") as show:
        for done in (0, 5_000_000, 10_000_000):
            show("model.safetensors", done, 20_000_000)
        show("me/tiny", 0, 0)  # only a sign of life
    assert capsys.readouterr().err == "model.safetensors: 0 B of 20.00 MB\n"


def test_lines_follow_each_other_after_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter((1.0, 2.0, 12.0))
    monkeypatch.setattr("sft_tui.download_progress.time.monotonic", lambda: next(now))
    with download_progress("en") as show:
        for done in (0, 5_000_000, 10_000_000):
            show("model.safetensors", done, 20_000_000)
    assert capsys.readouterr().err.splitlines()[-1] == "model.safetensors: 10.00 MB of 20.00 MB"


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    with download_progress("en") as show:
        show("model\x1b[2J.safetensors", 5_000_000, 20_000_000)
    shown = capsys.readouterr().err
    assert "5.0/20.0 MB" in shown
    assert "model\x1b[2J" not in shown
