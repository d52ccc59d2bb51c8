#!/usr/bin/env python
"""The commands of the original guide, over the same engine.

    accelerate launch --multi_gpu --num_processes 2 ./train_low_mem.py train --is_finetune=True --use_small_config=True
    python train_low_mem.py train --is_finetune=True --use_small_config=True [--epochs=5] [--is_keep_training=True]
    python train_low_mem.py test --is_finetune=True --use_small_config=True

Any setting that `sft-tui presets show` lists can be overridden with --name=value.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # this folder last: a data set unpacked here may hold a `json.py` or `torch.py`

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir, RunRecord
from sft_tui import starting
from sft_tui.cli import tell
from sft_tui.cli_common import LANG, LOGS
from sft_tui.following import discard
from sft_tui.headless import choose_view
from sft_tui.options import SETTINGS, GroupedCommand, config_options, given
from sft_tui.output import Group, echo
from sft_tui.ranks import LIBRARY_SETTINGS

F = TypeVar("F", bound=Callable[..., Any])

# What the original scripts called the configuration of each preset.
ORIGINAL_NAMES = {"sft-small": "TrainConfigSFTSmall", "sft": "TrainConfigSFT", "pretrain": "TrainConfig"}


def switch(name: str, help_text: str) -> Callable[[F], F]:
    """An option that takes True or False, and means True where it stands alone."""
    return click.option(f"--{name}", type=bool, is_flag=False, flag_value=True, default=False, help=help_text)


@click.group(cls=Group, context_settings=SETTINGS)
def cli() -> None:
    """Train or test as the original guide says; `sft-tui` is the fuller command."""


@cli.command(cls=GroupedCommand, lang=LANG)
@switch("is_finetune", "Fine-tune: encoder and embeddings do not learn.")
@switch("use_small_config", "With --is_finetune: the preset for small data and 16 GB of memory.")
@switch("is_keep_training", "Go on from the newest checkpoint.")
@switch("fresh", "Start anew where an unfinished run lies, and keep that aside.")
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help=LOGS)
@config_options(LANG)
def train(is_keep_training: bool, fresh: bool, **settings: Any) -> None:
    """Train."""
    if is_keep_training and fresh:
        raise click.UsageError("--is_keep_training goes on with a run, --fresh starts anew: give one of them.")
    run("train", settings, resume=is_keep_training, fresh=fresh)


@cli.command(cls=GroupedCommand, lang=LANG)
@switch("is_finetune", "The fine-tuned model.")
@switch("use_small_config", "With --is_finetune: the preset for small data and 16 GB of memory.")
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help=LOGS)
@config_options(LANG)
def test(**settings: Any) -> None:
    """Evaluate the best model on the test file."""
    run("test", settings)


def preset_of(*, is_finetune: bool, use_small_config: bool) -> str:
    """The preset that the guide's switches name."""
    if use_small_config and not is_finetune:
        raise click.UsageError("--use_small_config is a fine-tuning configuration: add --is_finetune=True.")
    if not is_finetune:
        return "pretrain"
    return "sft-small" if use_small_config else "sft"


def run(job: str, settings: dict[str, Any], *, resume: bool = False, fresh: bool = False) -> None:
    """Runs the job in this process, one rank of however many the launcher started; ends the process."""
    with_library_settings()
    name = preset_of(is_finetune=settings["is_finetune"], use_small_config=settings["use_small_config"])
    main_rank = os.environ.get("RANK", "0") == "0"
    if main_rank:
        echo(f"{'=' * 80}\n{ORIGINAL_NAMES[name]} = {name}\n{'=' * 80}")
    from engine.job import execute, leave
    from engine.score import score
    from engine.train import train as train_job
    from engine.world import World

    try:
        world = World()
        world.check(given(settings).get("num_processes", 0), elsewhere(world.launched))
        run_dir = open_together(world, name, settings, job=job, resume=resume, fresh=fresh)
    except InputError as error:
        if main_rank:
            tell(error, LANG)
        leave(error.exit_code)
    view = choose_view(LANG, json=False) if main_rank else None
    code = execute(world, run_dir, train_job if job == "train" else score, view.show if view else None)
    if view is not None:
        view.close()
    if main_rank and code in (2, 3) and not resume:
        discard(run_dir)  # refused: nothing was done, and nothing is left behind
    leave(code)


def with_library_settings() -> None:
    """Begins this process anew with what torch and its libraries are to find: glibc looks when a process begins."""
    missing = {setting: value for setting, value in LIBRARY_SETTINGS.items() if setting not in os.environ}
    if missing:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def open_together(world: Any, name: str, settings: dict[str, Any], **how: Any) -> RunDir:
    """The run's folder, opened by rank 0 and named to all; raises InputError on every rank."""

    def open_it() -> Path:
        record = starting.plan_run(name, given(settings), **how)
        told = told_as_here(replace(record, processes=world.size))
        run_dir, named = starting.open_run_dir(settings["logs"], told)
        FolderLock.acquire(run_dir.path, named.run, run_dir.path, "logs")  # until this process ends
        return run_dir.path

    return RunDir(world.from_main(world.together(open_it, chosen=world.is_main)))


def told_as_here(record: RunRecord) -> RunRecord:
    """The record with the ways to go on spelt as this script takes them."""
    script, *arguments = sys.argv
    kept = shlex.join(without_switches(arguments, "--is_keep_training", "--fresh"))
    on_cpu = "ACCELERATE_USE_CPU=true " if os.environ.get("ACCELERATE_USE_CPU") else ""
    launch = f"{on_cpu}accelerate launch --multi_gpu --num_processes {record.processes}"
    command = f"{launch if record.processes > 1 else 'python'} {script} {kept}"
    return replace(record, resume_option=f"{command} --is_keep_training=True", fresh_option=f"{command} --fresh=True")


def without_switches(arguments: list[str], *switches: str) -> list[str]:
    """The arguments without some switches, spelt `--name`, `--name=value` or `--name value`."""
    kept: list[str] = []
    for place, word in enumerate(arguments):
        value_of = arguments[place - 1] if place else ""
        if word.split("=")[0] in switches or (value_of in switches and not word.startswith("-")):
            continue
        kept.append(word)
    return kept


def elsewhere(processes: int) -> str:
    """The command that works on a machine without the GPUs that were asked for."""
    arguments = shlex.join(sys.argv[1:])
    launch = f"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {processes}"
    return f"python {sys.argv[0]} {arguments}` / `{launch} {sys.argv[0]} {arguments}"


if __name__ == "__main__":
    try:
        cli()
    except InputError as fault:
        tell(fault, LANG)
        sys.exit(fault.exit_code)
