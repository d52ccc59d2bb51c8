#!/usr/bin/env python
"""The commands of the original guide, over the same engine.

    accelerate launch --multi_gpu --num_processes 2 ./train_low_mem.py train --is_finetune=True --use_small_config=True
    python train_low_mem.py train --is_finetune=True --use_small_config=True [--epochs=5] [--is_keep_training=True]
    python train_low_mem.py test --is_finetune=True --use_small_config=True

Any setting that `sft-tui presets show` lists can be overridden with --name=value.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Keep this folder off `sys.path`: a data set unpacked here may contain a `json.py`, and even in the last place a
    # `google.py` would take precedence over a namespace package. Without an installation, our packages lie here. The
    # folder is relative only if the working folder was removed, and then nothing can be imported from it.
    here = sys.path.pop(0)
    from importlib.util import find_spec

    sys.path += [here] * (here.startswith("/") and find_spec("sft_tui") is None)

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.contract.config import override
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError, Message
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import say
from sft_tui import preconditions, starting
from sft_tui.child_process import LIBRARY_SETTINGS
from sft_tui.cli import usage
from sft_tui.cli.common import LANG, print_error, report_outdated_texts
from sft_tui.guide import config_file, launcher
from sft_tui.guide.configurations import banner, preset_of, state_dict_of
from sft_tui.guide.unsupervised import Attendant
from sft_tui.headless import choose_view
from sft_tui.options import SETTINGS, GroupedCommand, HomePath, config_options, given
from sft_tui.output import Group, echo
from sft_tui.preflight import missing
from sft_tui.preflight.fix import System
from sft_tui.removal import discard
from sft_tui.text import safe

if TYPE_CHECKING:
    from engine.process.job import Job

PATIENCE = 5.0  # seconds: a launcher ends all ranks with the first, and rank 0 still has to say why
F = TypeVar("F", bound=Callable[..., Any])


def switch(name: str) -> Callable[[F], F]:
    """An option that takes True or False, and means True without a value."""
    return click.option(f"--{name}", type=bool, is_flag=False, flag_value=True, default=False)


def refused(name: str, key: str) -> Callable[[F], F]:
    """An option of the original scripts that is refused; `key` is the text that says what to do instead."""

    def refuse(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(say(key, LANG))

    return click.option(f"--{name}", hidden=True, expose_value=False, callback=refuse)


def configurations(function: F) -> F:
    """A decorator that adds the options of both commands."""
    for option in (
        config_options(LANG),
        # torchrun takes a prefix of its own --logs-specs for itself, even after the script's name.
        click.option("--logs", "--log_dir", "logs", type=HomePath(path_type=Path), default="logs", show_default=True),
        refused("best_epoch", "guide.best_epoch"),
        switch("use_large_config"),
        switch("use_fast_config"),
        switch("use_small_config"),
        switch("is_finetune"),
    ):
        function = option(function)
    return function


@click.group(cls=Group, context_settings=SETTINGS)
def cli() -> None:
    """Train or test as the original guide says; `sft-tui` is the fuller command."""
    preconditions.require_working_folder()


@cli.command(cls=GroupedCommand, lang=LANG)
@configurations
@switch("is_keep_training")
@switch("fresh")
def train(is_keep_training: bool, fresh: bool, **settings: Any) -> None:
    """Train."""
    if is_keep_training and fresh:
        raise click.UsageError(say("guide.resume_fresh", LANG))
    run("train", settings, resume=is_keep_training, fresh=fresh)


@cli.command(cls=GroupedCommand, lang=LANG)
@configurations
def test(**settings: Any) -> None:
    """Evaluate the best model on the test file."""
    run("test", settings)


def run(job: str, settings: dict[str, Any], *, resume: bool = False, fresh: bool = False) -> None:
    """Runs the job in this process, one of the launcher's ranks; ends the process."""
    with_library_settings()
    name = preset_of(job, settings, LANG)
    main_rank = os.environ.get("RANK", "0") == "0"
    if main_rank:
        introduce(name, settings)
    from engine.process.attempt import execute, leave
    from engine.process.readings import watched
    from engine.process.world import World
    from engine.test import score
    from engine.training.loop import train as train_job

    try:
        world = World()
        world.check(given(settings).get("num_processes", 0), elsewhere(world.launched))
        run_dir, made = open_together(world, name, settings, job=job, resume=resume, fresh=fresh)
    except InputError as error:
        if main_rank:
            print_error(error, LANG)
        else:
            time.sleep(PATIENCE)
        leave(error.exit_code)
    attendant = Attendant(run_dir, choose_view(LANG, json=False), LANG) if main_rank else None
    work = partial(noticed, watched(train_job if job == "train" else score), attendant)
    code = execute(world, run_dir, work, attendant.show if attendant else None)
    if attendant is not None:
        attendant.close()
    if main_rank and code in (2, 3) and made:
        discard(run_dir, made)  # refused: nothing was done, so nothing is left behind
    leave(code)


def with_library_settings() -> None:
    """Restarts this process with the environment for torch and its libraries: glibc reads it only at process start."""
    unset = {setting: value for setting, value in LIBRARY_SETTINGS.items() if setting not in os.environ}
    if unset:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **unset})


def introduce(name: str, settings: dict[str, Any]) -> None:
    """Prints on standard error which configuration is used, and what is ignored."""
    echo(banner(name, LANG), err=True)
    message = config_file.answer([Path(sys.argv[0]).parent, Path()], name, given(settings))
    if message is not None:
        echo(say("app.notice", LANG, text=safe(message.what(LANG))), err=True)
        if message.fix(LANG):
            echo(say("app.fix", LANG, text=safe(message.fix(LANG))), err=True)


def noticed(work: "Callable[[Job], Message]", attendant: Attendant | None, job: "Job") -> Message:
    """Does the work, after the warnings about how it was started."""
    if attendant is not None and attendant.why_no_log:
        path, why = str(job.run_dir.plain_log), attendant.why_no_log
        job.warn(Message.of("plain_log_unwritable", path=path, why=why))
    if job.world.size == 1:
        script, *arguments = sys.argv
        on_cpu = job.world.device.type == "cpu"
        message = launcher.alone(script, arguments, job.config.effective_batch(1), on_cpu=on_cpu)
        if message is not None:
            job.warn(message)
    return work(job)


def open_together(world: Any, name: str, settings: dict[str, Any], **how: Any) -> tuple[RunDir, int]:
    """The run's folder, opened by rank 0, and how many folders it created; raises InputError on every rank."""

    def open_it() -> tuple[Path, int]:
        record = with_our_commands(planned(name, settings, world.size, **how))
        opened = starting.open_run_dir(settings["logs"], record)
        place = opened.run_dir.path
        FolderLock.acquire(place, opened.record.run, place, "logs")  # held until this process ends
        return place, opened.made

    place, made = world.from_main(world.together(open_it, chosen=world.is_main))
    return RunDir(place), made


def planned(name: str, settings: dict[str, Any], processes: int, **how: Any) -> RunRecord:
    """The record of the run, which writes its best model where the original scripts look for it."""
    values = given(settings)
    try:
        record = starting.plan_run(name, values, launched=processes, **how)
    except InputError as error:
        config, _ = override(preset(name).config, values)
        raise missing.advised(error, config, lambda **changes: System(launched_with(changes, processes))) from None
    if record.job != "train" or "export_state_dict" in values:
        return record
    return replace(record, config={**record.config, "export_state_dict": state_dict_of(name, record.config)})


def launched_with(changes: dict[str, Any], processes: int) -> tuple[str, ...]:
    """This command with other settings, as a list of arguments."""
    return (*launched(processes), *sys.argv[1:], *(f"--{name}={value}" for name, value in changes.items()))


def launched(processes: int) -> list[str]:
    """The command that starts this script on the given number of processes, as a list of arguments."""
    if processes < 2:
        return ["python", sys.argv[0]]
    on_cpu = ["ACCELERATE_USE_CPU=true"] if os.environ.get("ACCELERATE_USE_CPU") else []
    return [*on_cpu, "accelerate", "launch", "--multi_gpu", "--num_processes", str(processes), sys.argv[0]]


def with_our_commands(record: RunRecord) -> RunRecord:
    """The record with its resume commands spelt as this script takes them."""
    kept = without_switches(sys.argv[1:], "--is_keep_training", "--fresh")
    command = shlex.join([*launched(record.processes), *kept])
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
    """The command for a machine without the requested GPUs."""
    arguments = shlex.join(sys.argv[1:])
    launch = f"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {processes}"
    return f"python {sys.argv[0]} {arguments}` / `{launch} {sys.argv[0]} {arguments}"


usage.translate(cli, LANG, ("guide",))

if __name__ == "__main__":
    report_outdated_texts()
    try:
        with preconditions.report_unwritable_output(LANG):
            cli()
    except InputError as fault:
        print_error(fault, LANG)
        sys.exit(fault.exit_code)
