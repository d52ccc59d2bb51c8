"""When a signal is a second request to stop."""

import pytest

from engine.contract.stop_signals import FirstRequest


@pytest.mark.parametrize(
    ("seconds", "progress", "repeated"),
    [(0.5, 8, False), (10.0, 7, False), (10.0, 8, True)],
    ids=["an echo", "late but without progress", "a second request"],
)
def test_a_second_request_is_late_and_after_progress(
    seconds: float, progress: int, repeated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    first = FirstRequest(progress=7)
    now += seconds
    assert first.repeated(progress) is repeated
