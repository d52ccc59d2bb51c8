"""The command that prepares a run for a launcher: makes its folder, and prints the line that starts it."""

import socket
from pathlib import Path
from typing import Any

import click

from engine.contract.launch import Launcher, endpoint_of
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli import showing
from sft_tui.cli.check_commands import asked, preflight, print_traffic, with_rehearsed_budget
from sft_tui.cli.common import LANG, logs_option, of_command_line, preset_argument, report_environment
from sft_tui.cli.starting_commands import planned
from sft_tui.options import GroupedCommand, config_options, given

LAUNCHERS = ("torchrun", "accelerate", "slurm")


def refuse_deepspeed(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
    """Raises UsageError for a settings file of DeepSpeed, and says what to use."""
    if value is not None:
        raise click.UsageError(say("usage.deepspeed", LANG))


class LauncherChoice(click.Choice[str]):
    """The launchers that we know; DeepSpeed's is refused by name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The launcher; raises UsageError."""
        if str(value).lower() == "deepspeed":
            raise click.UsageError(say("usage.deepspeed", LANG))
        return super().convert(value, param, ctx)


def place_to_meet(launcher: Launcher, nodes: int, given: str | None) -> str:
    """HOST:PORT where machines meet that find each other by it, this one's unless `given`; raises UsageError."""
    if nodes == 1 or launcher == "slurm":
        if given:
            raise click.UsageError(say("usage.endpoint_unused", LANG))
        return ""
    host = given or socket.gethostname()
    if not given and host.startswith("localhost"):
        raise click.UsageError(say("usage.endpoint_missing", LANG, given=text.safe(host, 80)))
    try:
        return endpoint_of(host)
    except ValueError:
        raise click.UsageError(say("usage.endpoint", LANG, given=text.safe(host, 80))) from None


@click.command(cls=GroupedCommand, lang=LANG)
@preset_argument
@click.option("--nodes", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--gpus", type=click.IntRange(0, 64))
@click.option("--launcher", type=LauncherChoice(LAUNCHERS), default="torchrun", show_default=True)
@click.option("--endpoint", metavar="HOST[:PORT]")
@click.option("--deepspeed", hidden=True, expose_value=False, callback=refuse_deepspeed)
@click.option("--resume", is_flag=True)
@click.option("--fresh", is_flag=True)
@click.option("--force", is_flag=True)
@logs_option
@config_options(LANG, environment=True)
def prepare(
    preset_name: str,
    nodes: int,
    gpus: int | None,
    launcher: Launcher,
    endpoint: str | None,
    resume: bool,
    fresh: bool,
    force: bool,
    logs: Path,
    **settings: Any,
) -> None:
    """Make a run that torchrun, accelerate or Slurm starts."""
    if resume and fresh:
        raise click.UsageError(say("usage.resume_fresh", LANG))
    values = of_command_line(settings) if resume else given(settings)
    if values.get("num_processes"):
        raise click.UsageError(say("usage.prepare_processes", LANG))
    if not resume:
        report_environment()
    launch = asked(launcher, nodes, gpus, place_to_meet(launcher, nodes, endpoint))
    how: dict[str, Any] = {"job": "train", "resume": resume, "fresh": fresh, "launch": launch}
    record = planned(preset_name, values, **how)
    if not record.resume:
        from sft_tui.preflight.request import CheckRequest

        request = CheckRequest.of(
            preset_name, values, record.run_config(), logs, fresh=record.fresh, launch=record.launch
        )
        budgeted = with_rehearsed_budget(request, values)
        if budgeted != values:
            record = planned(preset_name, budgeted, **how)
        print_traffic(preflight(request, force=force), launch, adapters=request.config.lora_rank > 0)
    showing.launch(record, logs, showing.Presentation())
