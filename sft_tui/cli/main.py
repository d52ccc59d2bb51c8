"""The command line: thin commands over the functions that do the work."""

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from engine.contract.config import override
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import preconditions, text
from sft_tui.cli import usage
from sft_tui.cli.check_commands import check_command, preflight, print_applied_budget, rehearse
from sft_tui.cli.common import (
    LANG,
    detach_option,
    json_option,
    logs_option,
    no_ui_option,
    print_error,
    report_outdated_texts,
    run_argument,
    run_option,
    screen_options,
)
from sft_tui.cli.data_commands import data
from sft_tui.cli.model_commands import model
from sft_tui.cli.preset_commands import presets
from sft_tui.cli.reply_command import reply
from sft_tui.options import SETTINGS, GroupedCommand, HomePath, config_options, given
from sft_tui.output import Group, echo, echo_json, terminal_columns


def main() -> None:
    """Runs the command line; exits with 0 (done), 1 (failed), 2 (wrong usage or input) or 3 (refused because busy)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a character shows its code
    report_outdated_texts()
    try:
        with preconditions.report_unwritable_output(LANG):
            cli(prog_name="sft-tui")
    except InputError as error:
        print_error(error, LANG)
        sys.exit(error.exit_code)


def show_screen(
    logs: Path, *, run: str = "", demo: str = "", theme: str, lang: Lang | None, ascii_only: bool, slow_link: bool
) -> int:
    """Opens the screen; returns its exit code, or 2 without a terminal."""
    from sft_tui.screen import terminal

    chosen = lang or LANG
    if not terminal.is_available():
        echo(say("screen.no_terminal", chosen), err=True)
        return 2
    from sft_tui.screen.app import show
    from sft_tui.screen.base import Options

    ink = terminal.ink(theme, ascii_only=ascii_only)
    show(Options(logs, chosen, ink, slow_link, run, demo))


def has_terminal() -> bool:
    """Whether a screen can be shown here."""
    from sft_tui.screen import terminal

    return terminal.is_available()


@click.group(cls=Group, context_settings=SETTINGS, invoke_without_command=True)
@click.version_option(importlib.metadata.version("sft-tui"), prog_name="sft-tui")
@click.option("--logs", type=HomePath(path_type=Path), default=Path("logs"), show_default=True)
@screen_options
def cli(logs: Path, **screen: Any) -> None:
    """Fine-tune small chat models on small machines, from a terminal."""
    preconditions.require_working_folder()
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        sys.exit(show_screen(logs, **screen))
    given = [name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        option = "--ascii" if given[0] == "ascii_only" else f"--{given[0].replace('_', '-')}"
        name = context.invoked_subcommand
        known = any(option in parameter.opts for parameter in cli.commands[name].params)
        key = "usage.screen" if known else "usage.screen_only"
        raise click.UsageError(say(key, LANG, option=option, command=name))


for command in (check_command, rehearse, presets, data, model, reply):
    cli.add_command(command)


@dataclass(frozen=True)
class Presentation:
    """How a run started here is shown: on the screen if there is a terminal, else as text."""

    json: bool = False
    detach: bool = False
    screen: bool = False


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@no_ui_option
@json_option
@detach_option
@click.option("--resume", is_flag=True)
@click.option("--fresh", is_flag=True)
@click.option("--force", is_flag=True)
@logs_option
@config_options(LANG)
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
    start(preset_name, given(settings), job="train", view=view, force=force, logs=logs, **how)


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="[PRESET]", required=False)
@run_option
@json_option
@detach_option
@logs_option
@config_options(LANG)
def test(preset_name: str | None, of_run: str | None, json: bool, detach: bool, logs: Path, **settings: Any) -> None:
    """Evaluate a trained model on its test file."""
    view = Presentation(json=json, detach=detach)
    if (preset_name is None) == (of_run is None):
        raise click.UsageError(say("usage.test", LANG))
    if preset_name is not None:
        start(preset_name, given(settings), job="test", view=view, logs=logs)
        return
    from sft_tui import runs as known
    from sft_tui import starting

    one = known.read_run(known.find(logs, of_run))
    launch(starting.plan_test(one, given(settings)), one.run_dir.path.parent, view)


def start(
    name: str,
    values: dict[str, Any],
    *,
    logs: Path,
    view: Presentation = Presentation(),
    force: bool = False,
    **how: Any,
) -> None:
    """Plans, checks, starts and follows a run; exits with the run's code unless it is 0."""
    from sft_tui import starting
    from sft_tui.preflight.request import CheckRequest

    record = planned(name, values, **how)
    if record.job == "train" and not record.resume:
        request = CheckRequest.of(name, values, record.run_config(), logs, fresh=record.fresh)
        if request.rehearsal is not None and request.config != request.asked:
            print_applied_budget(request.rehearsal)
            values = {**values, "micro_batch_tokens": request.config.micro_batch_tokens}
            record = starting.plan_run(name, values, **how)
        preflight(request, force=force)
    launch(record, logs, view)


def planned(name: str, values: dict[str, Any], **how: Any) -> RunRecord:
    """The record of a run; the refusal of a run whose file is missing says how to get it."""
    from sft_tui import starting
    from sft_tui.preflight import missing
    from sft_tui.preflight.fix import Command, Start

    def again(**changes: Any) -> Command | Start:
        settings = {**values, **changes}
        return Start(name, settings) if job == "train" else Command((job, name, *starting.options(settings)))

    job = how["job"]
    try:
        return starting.plan_run(name, values, **how)
    except InputError as error:
        raise missing.advised(error, override(preset(name).config, values)[0], again) from None


def launch(record: RunRecord, logs: Path, view: Presentation) -> None:
    """Starts a planned run and shows it, or leaves it in the background; exits with the run's code unless it is 0."""
    from sft_tui import following, headless, starting

    message = starting.why_nothing_to_do(record)
    if message is not None:
        echo(text.safe(message.what(LANG)))
        echo(say("app.fix", LANG, text=text.safe(message.fix(LANG))), err=True)
        return
    started = starting.start(logs, record)
    if view.detach:
        echo(started.record.run)
        key = "app.detached_resumed" if record.resume else "app.detached_started"
        echo(say(key, LANG, run=text.safe(started.record.run)), err=True)
        return
    if view.screen and has_terminal():
        plain: dict[str, Any] = {"theme": "auto", "lang": None, "ascii_only": False, "slow_link": False}
        sys.exit(show_screen(logs, run=started.record.run, **plain))
    code = following.follow_started(started, headless.choose_view(LANG, json=view.json), LANG)
    if code:
        sys.exit(code)


def meant(name: str | None, logs: Path) -> RunDir:
    """The run that a command applies to; if none is named, prints which others are alive. Raises InputError."""
    from sft_tui import runs as known

    run_dir = known.find(logs, name)
    others = known.others_running(logs, but=run_dir) if name is None else []
    if others:
        shown = ", ".join(text.safe(other, 60) for other in others)
        echo(say("app.others_at_work", LANG, run=text.safe(run_dir.path.name, 60), others=shown), err=True)
    return run_dir


@cli.command()
@click.option("--json", is_flag=True)
@logs_option
def runs(json: bool, logs: Path) -> None:
    """List the runs, the newest first."""
    from sft_tui import listing
    from sft_tui.runs import all_runs

    found = list(all_runs(logs))
    if json:
        echo_json([one.to_json() for one in found], indent=1)
    elif not found:
        echo(say("app.no_runs", LANG, path=text.safe(str(logs))), err=True)
    else:
        for line in listing.table(found, LANG, terminal_columns()):
            echo(line)


@cli.command()
@run_argument
@click.option("--json", is_flag=True)
@logs_option
def status(name: str | None, json: bool, logs: Path) -> None:
    """Print the state of RUN on one line, or how it ended."""
    from sft_tui import demo, event_text, listing
    from sft_tui.runs import read_run

    one = read_run(meant(name, logs))
    if json:
        echo_json(one.to_json())
        return
    echo(listing.status_line(one, LANG))
    rest = demo.what_remains(one, LANG)
    if rest:
        echo(rest, err=True)
    if one.state.ended is not None and not one.alive:
        for _, line in event_text.ended_lines(one.state.ended, LANG):
            echo(line, err=True)


@cli.command()
@run_argument
@no_ui_option
@json_option
@logs_option
@screen_options
def attach(name: str | None, json: bool, no_ui: bool, logs: Path, **screen: Any) -> None:
    """Open the screen on RUN, or follow it as text."""
    from sft_tui import following, headless

    run_dir = meant(name, logs)
    if not (no_ui or json) and has_terminal():
        sys.exit(show_screen(run_dir.path.parent, run=run_dir.path.name, **screen))
    code = following.follow(run_dir, headless.choose_view(LANG, json=json), LANG)
    if code:
        sys.exit(code)


@cli.command("logs")
@run_argument
@click.option("--json", is_flag=True)
@click.option("--trainer", is_flag=True)
@logs_option
def show_logs(name: str | None, json: bool, trainer: bool, logs: Path) -> None:
    """Print what RUN has written so far."""
    from sft_tui import listing

    run_dir = meant(name, logs)
    if trainer:
        listing.print_output(run_dir)
    else:
        listing.print_events(run_dir, LANG, json=json)


@cli.command()
@run_argument
@click.option("--now", is_flag=True)
@click.option("--no-wait", is_flag=True)
@logs_option
def stop(name: str | None, now: bool, no_wait: bool, logs: Path) -> None:
    """Save and end RUN, and print how it ended."""
    ask(name, logs, now=now, why="stop", said="app.ending" if now else "app.stopping", wait=not no_wait)


@cli.command()
@run_argument
@click.option("--no-wait", is_flag=True)
@logs_option
def pause(name: str | None, no_wait: bool, logs: Path) -> None:
    """Save RUN and end its processes, to free memory and GPUs."""
    ask(name, logs, why="pause", said="app.pausing", wait=not no_wait)


def ask(name: str | None, logs: Path, *, why: str, said: str, wait: bool, now: bool = False) -> None:
    """Asks a run to end, and waits until it has; exits with its code unless it is 0."""
    from sft_tui import event_text, listing
    from sft_tui.runs import read_run
    from sft_tui.runs import stop as request

    one = read_run(meant(name, logs))
    request(one, now=now, why=why)
    echo(say(said, LANG), err=True)
    if not wait:
        return
    end = listing.wait_for_end(one.run_dir)
    for level, line in event_text.ended_lines(end, LANG):
        echo(line, err=level != "data")
    if end.reason not in ("stopped", "paused", "finished", *(["terminated", "killed"] if now else [])):
        sys.exit(end.exit_code)


@cli.command("continue")
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
        raise InputError("run_running", run=one.name)
    if one.status != known.PAUSED:
        raise InputError("run_not_paused", run=one.name, status=one.status)
    launch(
        starting.plan_resume(one.record, {}),
        one.run_dir.path.parent,
        Presentation(json=json, detach=detach, screen=not (no_ui or json)),
    )


@cli.command(cls=GroupedCommand, lang=LANG)
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
        raise InputError("run_running", run=one.name)
    fix = starting.fix_of(one) if apply_fix else {}
    if fix:
        shown = ", ".join(f"{setting} = {text.number(value)}" for setting, value in fix.items())
        echo(say("app.fixing", LANG, settings=text.safe(shown)), err=True)
    record = starting.plan_resume(one.record, given(settings), force=force, fix=fix)
    launch(record, one.run_dir.path.parent, Presentation(json=json, detach=detach, screen=not (no_ui or json)))


@cli.command()
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
    if not no_ui and has_terminal():
        sys.exit(show_screen(logs, demo=story.last, **screen))

    def follow(run: RunDir) -> int:
        return following.follow(run, headless.choose_view(LANG, json=False), LANG)

    sys.exit(demo.run_as_text(logs, LANG, story, follow))


usage.translate(cli, LANG)
