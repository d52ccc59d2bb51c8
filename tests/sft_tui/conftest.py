"""Events as a run would write them."""

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.bounds import as_json
from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.events import Envelope, Event, Record
from engine.contract.launch import OURS, Launch
from engine.contract.locks import LOCK_NAME, Holder
from engine.contract.messages import Message
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from engine.contract.scores import FILE, Measured

STARTED = events.RunStarted(
    run="sft-small-1",
    preset="sft-small",
    job="train",
    config=to_json(preset("sft-small").config),
    overrides={"epochs": [3, 2], "learn_rate": [5e-5, 3e-5]},
    versions={},
    git_revision="",
    data={},
    world_size=2,
    device="cpu",
    memory_available=13_150_000_000,
    disk_available=44_790_000_000,
)
PLAN = events.Plan(1000, 50, 100, 0, 16, 188_000_000, 94_000_000, "fp32", 1024)
STEP = events.Step(1, 1, 100, 10.25, 5e-5, 2.5, 700, 900, 1000, 0.1, 0.3, 0.05, 2, [4, 7])
OLD_EVAL = events.Eval(1, 50, 64, 9.5, 12.25, 64, "nrefs:1|tok:zh", 3.0)  # of a version that knew only BLEU
EVAL = dataclasses.replace(
    OLD_EVAL,
    against=FILE,
    measures={
        "perplexity": Measured(13359.73, "exp:mean-loss"),
        "chrf": Measured(33.5, "nrefs:1|nc:6"),
        "rouge-l": Measured(25.0, "nrefs:1|beta:1"),
        "exact-match": Measured(3.125, "norm:strip"),
    },
)
ENDED = events.RunEnded("finished", 0, Message("ended_finished", {}), {"peak_memory_rank0": "2900000000"})


def step(number: int, **values: Any) -> events.Step:
    """The event of step `number`."""
    return dataclasses.replace(STEP, step=number, epoch=1 + (number - 1) // 50, **values)


@pytest.fixture
def record() -> Callable[..., Record]:
    """Puts an event into an envelope; a second passes from each to the next."""
    clock: Iterator[int] = itertools.count(1)

    def put(event: Event, attempt: int = 1) -> Record:
        now = next(clock)
        return Record(Envelope("2026-01-01T00:00:00+00:00", float(now), attempt, "rank0", now), event)

    return put


def moved_elsewhere(run_dir: RunDir, launch: Launch = OURS) -> Path:
    """Another machine holds and writes the run now, by a lock that this one cannot see; returns that lock's file."""
    record = dataclasses.replace(run_dir.read_record(), launch=launch)
    run_dir.write_record(record)
    locked = record.output.path if launch.launcher else run_dir.path
    locked.mkdir(parents=True, exist_ok=True)
    holder = Holder(run_dir.path.name, str(run_dir.path.absolute()), "today", 7, "1", "another boot", "oak")
    write_json(locked / LOCK_NAME, as_json(holder))
    os.utime(run_dir.events, (time.time() - 60,) * 2)
    return locked / LOCK_NAME
