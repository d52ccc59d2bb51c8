"""What can be done with a run again: its settings for a new run, a start over, and more epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract.config import FIELDS, RunConfig, from_json, setting_of, to_json
from engine.contract.messages import InputError
from engine.contract.owner import Owner
from engine.contract.presets import preset
from engine.contract.project import seen_from
from engine.contract.record import RunRecord
from sft_tui import starting
from sft_tui.runs import Run

ON_RESUME = tuple(name for name in FIELDS if setting_of(name).free_on_resume and name != "output_dir")
CHANGEABLE = ("epochs", *ON_RESUME)


@dataclass(frozen=True)
class Again:
    """The preset of a run and the settings it had over it, as paths are named in the current folder."""

    preset: str
    values: Mapping[str, Any]


def settings_of(run: Run) -> RunConfig:
    """The settings that the run's trainer accepted, or else those it was asked for; raises InputError."""
    record = run.record
    owner = run.output.owner() if run.output and record.job == "train" else Owner()
    config = from_json(seen_from(record.project, owner.config) if owner.config else record.config)
    return replace(config, output_dir=str(record.output.path))


def again(run: Run) -> Again:
    """The settings of a training run as a new run is started with; raises InputError."""
    if run.record.job != "train":
        raise InputError("again_not_training", run=run.name)
    name = run.record.preset
    base = to_json(preset(name).config)
    values = {setting: value for setting, value in to_json(settings_of(run)).items() if value != base[setting]}
    return Again(name, values)


def plan_fresh(run: Run) -> RunRecord:
    """The record of a new run with the settings of this one, from the beginning; raises InputError."""
    same = again(run)
    return starting.plan_run(same.preset, same.values, fresh=True, based_on=run.name)


def set_aside_by_fresh(run: Run) -> tuple[str, Path] | None:
    """The run whose output a start from the beginning moves, and to where; None if the folder is empty."""
    output = run.record.output
    owner = output.owner()
    if not owner.known and not output.best.exists() and not output.checkpoints.exists():
        return None
    return owner.run, output.place_aside()


def plan_more_epochs(run: Run, typed: str) -> RunRecord:
    """The record of the run with more epochs than it had, `typed` being how many more; raises InputError."""
    try:
        more = int(typed.strip().removeprefix("+"))
    except ValueError:
        more = 0
    if more < 1:
        raise InputError("epochs_not_more", typed=typed.strip()[:40])
    return starting.plan_resume(run.record, {"epochs": settings_of(run).epochs + more})


def plan_changed(run: Run, values: Mapping[str, Any]) -> RunRecord:
    """The record of the run resumed with other values of settings in `CHANGEABLE`; raises InputError."""
    message = starting.why_not_resumable(run)
    if message is not None and "epochs" not in values:
        raise InputError(message.code, **message.args)
    return starting.plan_resume(run.record, values)
