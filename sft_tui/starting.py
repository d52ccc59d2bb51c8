"""From a preset and its overrides to a run that can be started; refuses at once what would fail later."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contract.config import from_json, override, to_json
from engine.contract.inputs import require_files
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.rundir import OutputDir, RunDir, RunRecord, busy, create_run_dir, is_locked, refuse_unfinished


def plan_run(
    name: str, values: Mapping[str, Any], *, job: str = "train", resume: bool = False, fresh: bool = False
) -> RunRecord:
    """The record of a run, not yet named; raises InputError, or BusyError where another run holds the folder.

    A resumed run takes the settings it was started with, not the preset's; `values` go over either.
    """
    base = preset(name).config
    output = OutputDir(Path(str(values.get("output_dir", base.output_dir))))
    earlier = _earlier_record(output) if resume else None
    if earlier is not None:
        # The owner file has the settings that the trainer accepted; the record may be of a resume that was refused.
        accepted = output.owner().get("config")
        base = replace(
            from_json(accepted if isinstance(accepted, dict) else earlier.config), output_dir=str(output.path)
        )
    config, overrides = override(base, values)
    if job == "train" and is_locked(output):
        raise busy(output)
    needed = ["train_file", "validation_file", "tokenizer"] if job == "train" else ["test_file"]
    require_files(config, *needed, *(["pretrained_model"] if job == "train" and not resume else []))
    command = f"sft-tui run {name} --no-ui"
    resume_option = f"{command}{_options({k: v for k, v in values.items() if k == 'output_dir'})} --resume"
    fresh_option = f"{command}{_options(values)} --fresh"
    if job == "train" and not resume and not fresh:
        refuse_unfinished(output, resume_option=resume_option, fresh_option=fresh_option)
    return RunRecord(
        run=earlier.run if earlier else "",
        preset=earlier.preset if earlier else name,
        job=job,
        config=to_json(config),
        overrides={**(earlier.overrides if earlier else {}), **overrides},
        processes=config.num_processes or (earlier.processes if earlier else 0),
        resume=resume,
        fresh=fresh,
        resume_option=resume_option,
        fresh_option=fresh_option,
        elsewhere=f"ACCELERATE_USE_CPU=true {command}{_options(values)}",
    )


def _options(values: Mapping[str, Any]) -> str:
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in values.items())


def _earlier_record(output: OutputDir) -> RunRecord | None:
    """The record of the run that `output` belongs to, where it can still be read."""
    place = output.owner().get("run_dir")
    try:
        return RunDir(Path(place)).read_record() if isinstance(place, str) else None
    except InputError:
        return None


def open_run_dir(logs: Path, record: RunRecord) -> tuple[RunDir, RunRecord]:
    """The folder of the run and its record, written there: a resumed run's own folder, else a new one."""
    config = from_json(record.config)
    place = OutputDir(Path(config.output_dir)).owner().get("run_dir") if record.resume else None
    run_dir = RunDir(Path(place)) if isinstance(place, str) and Path(place).is_dir() else None
    if run_dir is None:
        run_dir = create_run_dir(logs, record.preset if record.job == "train" else f"{record.preset}-{record.job}")
    named = replace(record, run=run_dir.path.name)
    run_dir.write_record(named)
    return run_dir, named
