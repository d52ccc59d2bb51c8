"""The commands that start runs: run, test, continue, resume and demo."""

import sys
from pathlib import Path
from typing import Any

import click

from engine.contract.config import override
from engine.contract.messages import BusyError, InputError
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli import showing
from sft_tui.cli.check_commands import preflight, with_rehearsed_budget
from sft_tui.cli.common import (
    LANG,
    complete_preset,
    detach_option,
    json_option,
    logs_option,
    no_ui_option,
    of_command_line,
    preset_argument,
    report_environment,
    run_argument,
    run_option,
    screen_options,
)
from sft_tui.cli.showing import Presentation, meant
from sft_tui.options import GroupedCommand, config_options, given, options
from sft_tui.output import echo


@click.command(cls=GroupedCommand, lang=LANG)
@preset_argument
@no_ui_option
@json_option
@detach_option
@click.option("--resume", is_flag=True)
@click.option("--fresh", is_flag=True)
@click.option("--force", is_flag=True)
@logs_option
@config_options(LANG, environment=True)
def run(
    preset_name: str,
    no_ui: bool,
    json: bool,
    detach: bool,
    resume: bool,
    fresh: bool,
    force: bool,
    logs: Path,
    **settings: Any,
) -> None:
    """Train with a PRESET; any of its settings can be overridden."""
    if resume and fresh:
        raise click.UsageError(say("usage.resume_fresh", LANG))
    how = {"resume": resume, "fresh": fresh}
    view = Presentation(json=json, detach=detach, screen=not (no_ui or json))
    values = of_command_line(settings) if resume else given(settings)
    if not resume:
        report_environment()
    start(preset_name, values, job="train", view=view, force=force, logs=logs, **how)


@click.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="[PRESET]", required=False, shell_complete=complete_preset)
@run_option
@json_option
@detach_option
@logs_option
@config_options(LANG, environment=True)
def test(preset_name: str | None, of_run: str | None, json: bool, detach: bool, logs: Path, **settings: Any) -> None:
    """Evaluate a trained model on its test file."""
    view = Presentation(json=json, detach=detach)
    if (preset_name is None) == (of_run is None):
        raise click.UsageError(say("usage.test", LANG))
    if preset_name is not None:
        report_environment()
        start(preset_name, given(settings), job="test", view=view, logs=logs)
        return
    from sft_tui import runs as known
    from sft_tui import starting

    one = known.read_run(known.find(logs, of_run))
    showing.launch(starting.plan_test(one, of_command_line(settings)), one.run_dir.path.parent, view)


def start(
    name: str,
    values: dict[str, Any],
    *,
    logs: Path,
    view: Presentation,
    force: bool = False,
    **how: Any,
) -> None:
    """Plans, checks, starts and follows a run; exits with the run's code unless it is 0."""
    from sft_tui import starting
    from sft_tui.preflight.request import CheckRequest

    record = planned(name, values, **how)
    if record.job == "train" and not record.resume:
        request = CheckRequest.of(name, values, record.run_config(), logs, fresh=record.fresh)
        budgeted = with_rehearsed_budget(request, values)
        if budgeted != values:
            record = starting.plan_run(name, budgeted, **how)
        preflight(request, force=force)
    showing.launch(record, logs, view)


def planned(name: str, values: dict[str, Any], **how: Any) -> RunRecord:
    """The record of a run; the refusal of a run whose file is missing says how to get it."""
    from sft_tui import starting
    from sft_tui.preflight import missing
    from sft_tui.preflight.fix import Command, Start

    def again(**changes: Any) -> Command | Start:
        settings = {**values, **changes}
        return Start(name, settings) if job == "train" else Command((job, name, *options(settings)))

    job = how["job"]
    try:
        return starting.plan_run(name, values, **how)
    except InputError as error:
        raise missing.advised(error, override(preset(name).config, values)[0], again) from None


@click.command("continue")
@run_argument
@no_ui_option
@json_option
@detach_option
@logs_option
def continue_(name: str | None, no_ui: bool, json: bool, detach: bool, logs: Path) -> None:
    """Continue a paused RUN."""
    from sft_tui import runs as known
    from sft_tui import starting

    one = known.read_run(meant(name, logs))
    if one.alive:
        raise BusyError("run_running", run=one.name)
    if one.status != known.PAUSED:
        raise InputError("run_not_paused", run=one.name, status=one.status)
    showing.launch(
        starting.plan_resume(one.record, {}),
        one.run_dir.path.parent,
        Presentation(json=json, detach=detach, screen=not (no_ui or json)),
    )


@click.command(cls=GroupedCommand, lang=LANG)
@run_argument
@no_ui_option
@json_option
@detach_option
@click.option("--force", is_flag=True)
@click.option("--apply-fix", is_flag=True)
@logs_option
@config_options(LANG)
def resume(
    name: str | None,
    no_ui: bool,
    json: bool,
    detach: bool,
    force: bool,
    apply_fix: bool,
    logs: Path,
    **settings: Any,
) -> None:
    """Resume RUN from its newest valid checkpoint."""
    from sft_tui import runs as known
    from sft_tui import starting

    one = known.read_run(meant(name, logs))
    if one.alive:
        raise BusyError("run_running", run=one.name)
    if one.record.launch.launcher and one.state.started is None and not given(settings):
        one.run_dir.clear_requests()  # it may have been asked to stop while its machines waited for each other
        one.run_dir.write_record(one.record)  # the batch script of a job that begins again looks when it was written
        showing.print_launch(starting.Opened(one.run_dir, one.record, 0))
        return
    fix = starting.fix_of(one) if apply_fix else {}
    if fix:
        shown = ", ".join(f"{setting} = {text.number(value)}" for setting, value in fix.items())
        echo(say("app.fixing", LANG, settings=text.safe(shown)), err=True)
    record = starting.plan_resume(one.record, given(settings), force=force, fix=fix)
    showing.launch(record, one.run_dir.path.parent, Presentation(json=json, detach=detach, screen=not (no_ui or json)))


@click.command()
@click.option("--t5", is_flag=True)
@no_ui_option
@detach_option
@logs_option
@screen_options
def demo(t5: bool, no_ui: bool, detach: bool, logs: Path, **screen: Any) -> None:
    """Fine-tune a small chat model, in a few minutes."""
    from sft_tui import demo, following, headless

    story = demo.T5 if t5 else demo.CHAT
    if detach:
        _, run = demo.begin(logs, story, LANG, lambda line: echo(line, err=True))
        if run:
            echo(run)
            echo(say("app.left_running", LANG, run=text.safe(run)), err=True)
        return
    if not no_ui and showing.has_terminal():
        sys.exit(showing.show_screen(logs, demo=story.last, **screen))

    def follow(run: RunDir) -> int:
        return following.follow(run, headless.choose_view(LANG, json=False), LANG)

    sys.exit(demo.run_as_text(logs, LANG, story, follow))
