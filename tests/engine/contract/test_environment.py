"""What a supervisor passes to its ranks is what they read."""

import os

import pytest

from engine.contract import environment
from engine.contract.config import to_json
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.process import heartbeat
from sft_tui.supervise.ranks import trainer_environment

NAMES = {name: value for name, value in vars(environment).items() if name.isupper()}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that nothing has started as a rank."""
    for name in (*NAMES.values(), "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_names_are_ours_and_not_used_twice() -> None:
    assert len(set(NAMES.values())) == len(NAMES)
    assert all(value.startswith("SFT_TUI_") for value in NAMES.values())


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("lock", [None, 7])
def test_a_rank_finds_its_supervisor_and_its_lock(lock: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    record = RunRecord("sft-small-1", "sft-small", "train", to_json(preset("sft-small").config))
    passed = trainer_environment(record, lock)
    for name in set(NAMES.values()) & passed.keys():
        monkeypatch.setenv(name, passed[name])
    assert (heartbeat.supervised(), heartbeat.parent_to_watch()) == (True, os.getpid())
    assert os.environ.get(environment.LOCK_FD) == (None if lock is None else "7")


@pytest.mark.usefixtures("outside")
def test_a_process_that_was_started_by_hand_has_neither() -> None:
    assert (heartbeat.supervised(), heartbeat.parent_to_watch()) == (False, None)
    assert heartbeat.attempt_from_environment() == 0
