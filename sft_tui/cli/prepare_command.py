"""The command that prepares a run for a launcher: makes its folder, and prints the line that starts it."""

from pathlib import Path
from typing import Any

import click

from engine.contract.texts import say
from sft_tui.cli import showing
from sft_tui.cli.check_commands import asked, preflight, print_traffic
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
    launcher: str,
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
    launch = asked(launcher, nodes, gpus, endpoint or "")
    record = planned(preset_name, values, job="train", resume=resume, fresh=fresh, launch=launch)
    if not record.resume:
        from sft_tui.preflight.request import CheckRequest

        request = CheckRequest.of(
            preset_name, values, record.run_config(), logs, fresh=record.fresh, launch=record.launch
        )
        print_traffic(preflight(request, force=force), launch)
    showing.launch(record, logs, showing.Presentation())
