"""The lines in which the inspecting process reports its progress."""

import json
import threading

import pytest

from engine.inspecting import answer_lines


def test_progress_is_not_reported_more_often_than_agreed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("engine.inspecting.answer_lines.time.monotonic", lambda: now)
    report = answer_lines.paced_files()
    for tenth in range(5):
        now = 100 + tenth / 10
        report("a", tenth, 5)
        report("问", tenth, 5)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isascii() for line in lines)
    found = [(line["doing"], line["done"], line["total"]) for line in map(json.loads, lines)]
    assert found == [(name, done, 5) for done in (0, 2, 4) for name in ("a", "问")]


def test_a_silent_task_is_reported_until_it_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    over, waits = threading.Event(), iter([False, False, True])
    monkeypatch.setattr(over, "wait", lambda _seconds: next(waits))
    answer_lines.repeat("tokenizer", over)
    assert capsys.readouterr().out.splitlines() == ['{"doing": "tokenizer"}'] * 2
