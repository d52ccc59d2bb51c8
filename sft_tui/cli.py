"""The command line: thin commands over the functions that do the work."""

import contextlib
import importlib.metadata
import json as jsonlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.contract import events
from engine.contract.config import RunConfig, override, to_json
from engine.contract.messages import InputError, Lang
from engine.contract.presets import PRESETS, preset
from engine.contract.rundir import RunRecord
from sft_tui import text
from sft_tui.locale import language, say
from sft_tui.options import SETTINGS, GroupedCommand, config_options, given, settings_table

if TYPE_CHECKING:
    from sft_tui.preflight.check import Report, Request
    from sft_tui.preflight.probe import Progress
    from sft_tui.rehearsal import Rehearsal

LANG: Lang = language()


def main() -> None:
    """Runs the command line; exits with 0 done, 1 failed, 2 wrong use or input, 3 refused because busy."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character shows its code
    try:
        cli(prog_name="sft-tui")
    except InputError as error:
        tell(error, LANG)
        sys.exit(error.exit_code)


def tell(error: InputError, lang: Lang) -> None:
    """Prints an error and its fix on standard error."""
    click.echo(say("error", lang, text=text.safe(error.message.what(lang))), err=True)
    fix = error.message.fix(lang)
    if fix:
        click.echo(say("fix", lang, text=text.safe(fix)), err=True)


THEMES = ("auto", "dark", "light", "16", "none")
Command = TypeVar("Command", bound=Callable[..., Any])


def screen_options(function: Command) -> Command:
    """A decorator that adds the options of the screen."""
    for option in (
        click.option("--slow-link", is_flag=True, help="Draw seldom, for slow connections."),
        click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only."),
        click.option("--theme", type=click.Choice(THEMES), default="auto", show_default=True, help="Colours."),
        click.option("--lang", type=click.Choice(["en", "zh"]), default=None, help="Language of the screen."),
    ):
        function = option(function)
    return function


def show_screen(
    logs: Path, *, run: str = "", demo: bool = False, theme: str, lang: str | None, ascii_only: bool, slow_link: bool
) -> int:
    """Opens the screen; its exit code, 2 where there is no terminal."""
    from sft_tui.screen import terminal

    chosen: Lang = "zh" if lang == "zh" else "en" if lang == "en" else LANG
    if not terminal.there_is_one():
        click.echo(say("ui_no_terminal", chosen), err=True)
        return 2
    from sft_tui.screen.app import Desk, Options

    ink = terminal.ink(theme, ascii_only=ascii_only)
    terminal.run(Desk(Options(logs, chosen, ink, slow_link, run, demo)), chosen)


def has_terminal() -> bool:
    """Whether a screen can be shown here."""
    from sft_tui.screen import terminal

    return terminal.there_is_one()


@click.group(context_settings=SETTINGS, invoke_without_command=True)
@click.version_option(importlib.metadata.version("sft-tui"), prog_name="sft-tui")
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help="Runs' logs.")
@screen_options
def cli(logs: Path, **screen: Any) -> None:
    """Fine-tune small chat models on small machines, from a terminal. Without a command: the screen."""
    if click.get_current_context().invoked_subcommand is None:
        sys.exit(show_screen(logs, **screen))


NO_UI = "Follow the run as text: bars on a terminal, plain lines elsewhere."
JSON = "Print the run's events, one JSON object a line."
DETACH = "Start it, print its name, and return at once."
LOGS = "Folder of the runs' logs."

logs_option = click.option(
    "--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help=LOGS
)
json_option = click.option("--json", is_flag=True, help=JSON)
detach_option = click.option("--detach", is_flag=True, help=DETACH)
no_ui_option = click.option("--no-ui", is_flag=True, help=NO_UI)


@dataclass(frozen=True)
class View:
    """How a run that is started here is shown: the screen where there is a terminal, else text."""

    json: bool = False
    detach: bool = False
    screen: bool = False


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@no_ui_option
@json_option
@detach_option
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in the output folder.")
@click.option("--fresh", is_flag=True, help="Start anew where an unfinished run lies, and keep that aside.")
@click.option("--force", is_flag=True, help="Start although the pre-flight found errors.")
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
    """Train as PRESET says, with any of its settings overridden; the run outlives this command."""
    if resume and fresh:
        raise click.UsageError("--resume goes on with a run, --fresh starts anew: give one of them.")
    how = {"resume": resume, "fresh": fresh}
    view = View(json=json, detach=detach, screen=not (no_ui or json))
    start(preset_name, given(settings), job="train", view=view, force=force, logs=logs, **how)


memory_limit_option = click.option(
    "--memory-limit", metavar="SIZE", help="Memory that the run may take, such as 8GB; else what is free."
)


@cli.command("check", cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@click.option("--json", is_flag=True, help="Print the findings as one JSON object.")
@click.option("--rehearse", "rehearsing", is_flag=True, help="Then rehearse the run, as `rehearse` does.")
@memory_limit_option
@logs_option
@config_options(LANG)
def check_command(
    preset_name: str, json: bool, rehearsing: bool, memory_limit: str | None, logs: Path, **settings: Any
) -> None:
    """Tell before a run what would fail: data, model, memory, disk and machine."""
    from sft_tui.preflight import report as reports

    request = asked(preset_name, settings, memory_limit, logs)
    report = checked(request)
    if rehearsing and report.may_be_rehearsed:
        rehearsed(request)
        request = asked(preset_name, settings, memory_limit, logs)
        report = checked(request)
    found = request.rehearsal if rehearsing else None
    if json:
        click.echo(reports.to_json(report, LANG, rehearsal_json(request, report, found) if found else None))
        sys.exit(report.exit_code)
    for line in reports.lines(report.findings, LANG):
        click.echo(line)
    if found is not None:
        tell_rehearsed(request, report, found)
    click.echo(reports.summary(report, LANG), err=True)
    sys.exit(report.exit_code)


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@click.option("--json", is_flag=True, help="Print what was found as one JSON object.")
@memory_limit_option
@logs_option
@config_options(LANG)
def rehearse(preset_name: str, json: bool, memory_limit: str | None, logs: Path, **settings: Any) -> None:
    """Do everything of a run once, on its longest rows, and tell what it takes: memory, time, and the budget that fits.

    Nothing of it is kept but what was found, which `run` uses.
    """
    from sft_tui.preflight import report as reports

    request = asked(preset_name, settings, memory_limit, logs)
    report = checked(request)
    if not report.may_be_rehearsed:
        for line in reports.lines([finding for finding in report.findings if finding.level != "ok"], LANG):
            click.echo(line, err=True)
        click.echo(reports.summary(report, LANG), err=True)
        sys.exit(report.exit_code)
    found = rehearsed(request)
    if json:
        click.echo(jsonlib.dumps(rehearsal_json(request, report, found)))
    else:
        tell_rehearsed(request, report, found)


def asked(preset_name: str, settings: dict[str, Any], memory_limit: str | None, logs: Path) -> "Request":
    """The run that is to be looked at."""
    from sft_tui.preflight.check import Request

    values = given(settings)
    config, _ = override(preset(preset_name).config, values)
    limit = text.parse_size(memory_limit) if memory_limit else 0
    return Request.of(preset_name, values, config, logs, memory_limit=limit)


def rehearsal_json(request: "Request", report: "Report", found: "Rehearsal") -> dict[str, Any]:
    """What a rehearsal found, as plain values."""
    from sft_tui import rehearsal

    return rehearsal.to_json(found, request.config, report.steps)


def rehearsed(request: "Request") -> "Rehearsal":
    """Carries the rehearsal out, telling on a terminal how far it is, and keeps what it finds."""
    from sft_tui.headless import phase_line
    from sft_tui.preflight.check import rehearse_request

    def tell_phase(phase: events.Phase) -> None:
        if sys.stderr.isatty() and phase.name != "training":
            line = say("rehearsing", LANG, phase=phase_line(phase, LANG))
            click.echo(f"\r{text.cut(line, shutil.get_terminal_size().columns - 1)}\x1b[K", nl=False, err=True)

    try:
        return rehearse_request(request, tell_phase)
    finally:
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)


def tell_rehearsed(request: "Request", report: "Report", found: "Rehearsal") -> None:
    """Prints what a rehearsal found."""
    from sft_tui import rehearsal

    for line in rehearsal.lines(found, request.config, report.steps, LANG):
        click.echo(line)


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@json_option
@detach_option
@logs_option
@config_options(LANG)
def test(preset_name: str, json: bool, detach: bool, logs: Path, **settings: Any) -> None:
    """Evaluate the best model of PRESET's output folder on its test file."""
    start(preset_name, given(settings), job="test", view=View(json=json, detach=detach), logs=logs)


def start(
    name: str,
    values: dict[str, Any],
    *,
    logs: Path,
    view: View = View(),
    force: bool = False,
    **how: Any,
) -> None:
    """Plans, checks, starts and follows a run; exits with the run's code unless it is 0."""
    from sft_tui import starting
    from sft_tui.preflight.check import Request

    record = starting.plan_run(name, values, **how)
    if record.job == "train" and not record.resume:
        request = Request.of(name, values, record.run_config(), logs, fresh=record.fresh)
        if request.rehearsal is not None and request.config != request.asked:
            tell_applied(request.rehearsal)
            values = {**values, "micro_batch_tokens": request.config.micro_batch_tokens}
            record = starting.plan_run(name, values, **how)
        preflight(request, force=force)
    launch(record, logs, view)


def tell_applied(found: "Rehearsal") -> None:
    """Says that the budget is not the preset's but the one that a rehearsal found."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.at))
    budgets = {"asked": found.found.micro_batch_tokens_asked, "budget": found.found.micro_batch_tokens}
    click.echo(say("rehearsal_applied", LANG, when=when, **budgets), err=True)


def preflight(request: "Request", *, force: bool) -> None:
    """Looks at a run before it starts, and says what is not in order; exits where something is in error."""
    from sft_tui.preflight import report as reports

    report = checked(request)
    for line in reports.lines([finding for finding in report.findings if finding.level != "ok"], LANG):
        click.echo(line, err=True)
    click.echo(reports.summary(report, LANG), err=True)
    if report.exit_code and not force:
        click.echo(say("preflight_refused", LANG), err=True)
        sys.exit(report.exit_code)
    if report.exit_code:
        click.echo(say("preflight_forced", LANG), err=True)


def checked(request: "Request") -> "Report":
    """The pre-flight's report; on a terminal it is told how far the reading of large files is."""
    from sft_tui.preflight.check import check

    with telling() as progress:
        return check(request, progress)


@contextlib.contextmanager
def telling() -> "Iterator[Progress]":
    """Tells on standard error how far the reading is, on one line of a terminal and not at all elsewhere."""
    from sft_tui.preflight.report import subject

    shown = False

    def tell_progress(setting: str, done: int, total: int) -> None:
        nonlocal shown
        if total and sys.stderr.isatty():
            shown = True
            line = say("reading", LANG, what=subject(setting, LANG), done=done, total=total)
            click.echo(f"\r{line}\x1b[K", nl=False, err=True)

    yield tell_progress
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)


def launch(record: RunRecord, logs: Path, view: View) -> None:
    """Starts a planned run and shows it, or leaves it alone; exits with the run's code unless it is 0."""
    from sft_tui import following, headless, starting

    message = starting.nothing_left(record)
    if message is not None:
        click.echo(text.safe(message.what(LANG)))
        click.echo(say("fix", LANG, text=text.safe(message.fix(LANG))), err=True)
        return
    started = starting.start(logs, record)
    if view.detach:
        click.echo(started.record.run)
        click.echo(say("left_running", LANG, run=text.safe(started.record.run)), err=True)
        return
    if view.screen and has_terminal():
        plain: dict[str, Any] = {"theme": "auto", "lang": None, "ascii_only": False, "slow_link": False}
        sys.exit(show_screen(logs, run=started.record.run, **plain))
    code = following.follow_started(started, headless.choose_view(LANG, json=view.json), LANG)
    if code:
        sys.exit(code)


run_argument = click.argument("name", metavar="[RUN]", required=False)


@cli.command()
@json_option
@logs_option
def runs(json: bool, logs: Path) -> None:
    """List the runs, the newest first."""
    from sft_tui import listing
    from sft_tui.runs import every

    found = list(every(logs))
    if json:
        click.echo(jsonlib.dumps([one.to_json() for one in found], ensure_ascii=False, indent=1))
    elif not found:
        click.echo(say("no_runs", LANG, path=text.safe(str(logs))), err=True)
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        for line in listing.table(found, LANG, columns):
            click.echo(line)


@cli.command()
@run_argument
@click.option("--json", is_flag=True, help="Print what is known of the run as one JSON object.")
@logs_option
def status(name: str | None, json: bool, logs: Path) -> None:
    """Tell on one line how RUN is, or how it ended and what to do; the newest where none is named."""
    from sft_tui import headless, listing
    from sft_tui.runs import find, look

    one = look(find(logs, name))
    if json:
        click.echo(jsonlib.dumps(one.to_json(), ensure_ascii=False))
        return
    click.echo(listing.status_line(one, LANG))
    if one.state.ended is not None and not one.alive:
        for _, line in headless.ended_lines(one.state.ended, LANG):
            click.echo(line, err=True)


@cli.command()
@run_argument
@no_ui_option
@json_option
@logs_option
@screen_options
def attach(name: str | None, json: bool, no_ui: bool, logs: Path, **screen: Any) -> None:
    """Open the screen on RUN; with --no-ui, or where there is no terminal, follow it as text to its end."""
    from sft_tui import following, headless
    from sft_tui.runs import find

    if not (no_ui or json) and has_terminal():
        sys.exit(show_screen(logs, run=find(logs, name).path.name, **screen))
    code = following.follow(find(logs, name), headless.choose_view(LANG, json=json), LANG)
    if code:
        sys.exit(code)


@cli.command("logs")
@run_argument
@click.option("--json", is_flag=True, help="Print the events as they are.")
@click.option("--trainer", is_flag=True, help="Print what the trainer's processes wrote to their output instead.")
@logs_option
def show_logs(name: str | None, json: bool, trainer: bool, logs: Path) -> None:
    """Print what RUN has written so far."""
    from sft_tui import listing
    from sft_tui.runs import find

    run_dir = find(logs, name)
    if trainer:
        listing.print_output(run_dir)
    else:
        listing.print_events(run_dir, LANG, json=json)


@cli.command()
@run_argument
@click.option("--now", is_flag=True, help="End it at once, without saving.")
@click.option("--no-wait", is_flag=True, help="Return as soon as it is asked.")
@logs_option
def stop(name: str | None, now: bool, no_wait: bool, logs: Path) -> None:
    """Save and end RUN; what it says at its end is printed here."""
    ask(name, logs, now=now, why="stop", said="ending" if now else "stopping", wait=not no_wait)


@cli.command()
@run_argument
@click.option("--no-wait", is_flag=True, help="Return as soon as it is asked.")
@logs_option
def pause(name: str | None, no_wait: bool, logs: Path) -> None:
    """Save RUN and end its processes, so that memory and GPUs are free; `continue` goes on with it."""
    ask(name, logs, why="pause", said="pausing", wait=not no_wait)


def ask(name: str | None, logs: Path, *, why: str, said: str, wait: bool, now: bool = False) -> None:
    """Asks a run to end, and waits until it has; exits with its code unless it is 0."""
    from sft_tui import headless, listing
    from sft_tui.runs import find, look
    from sft_tui.runs import stop as request

    one = look(find(logs, name))
    request(one, now=now, why=why)
    click.echo(say(said, LANG), err=True)
    if not wait:
        return
    end = listing.wait_for_end(one.run_dir)
    for stream, line in headless.ended_lines(end, LANG):
        click.echo(line, err=stream == "note")
    if end.reason not in ("stopped", "paused", "finished", *(["terminated", "killed"] if now else [])):
        sys.exit(end.exit_code)


@cli.command("continue")
@run_argument
@no_ui_option
@json_option
@detach_option
@logs_option
def continue_(name: str | None, no_ui: bool, json: bool, detach: bool, logs: Path) -> None:
    """Go on with RUN, which was paused."""
    from sft_tui import runs as known
    from sft_tui import starting

    one = known.look(known.find(logs, name))
    if one.alive:
        raise InputError("run_running", run=one.name)
    if one.status != known.PAUSED:
        raise InputError("run_not_paused", run=one.name, status=one.status)
    launch(starting.plan_resume(one.record, {}), logs, View(json=json, detach=detach, screen=not (no_ui or json)))


@cli.command(cls=GroupedCommand, lang=LANG)
@run_argument
@no_ui_option
@json_option
@detach_option
@click.option("--force", is_flag=True, help="Go on although the checkpoint was made with something else.")
@click.option("--apply-fix", is_flag=True, help="Change what the end of the run said should be changed.")
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
    """Go on with RUN from its newest sound checkpoint; with --epochs N a finished run goes on for more."""
    from sft_tui import runs as known
    from sft_tui import starting

    one = known.look(known.find(logs, name))
    if one.alive:
        raise InputError("run_running", run=one.name)
    fix = starting.fix_of(one) if apply_fix else {}
    if fix:
        shown = ", ".join(f"{setting} = {text.number(value)}" for setting, value in fix.items())
        click.echo(say("fixing", LANG, settings=text.safe(shown)), err=True)
    record = starting.plan_resume(one.record, given(settings), force=force, fix=fix)
    launch(record, logs, View(json=json, detach=detach, screen=not (no_ui or json)))


@cli.group(invoke_without_command=True)
@click.pass_context
def presets(context: click.Context) -> None:
    """List the presets."""
    if context.invoked_subcommand is None:
        list_presets()


@presets.command("list")
def list_presets_command() -> None:
    """List the presets."""
    list_presets()


def list_presets() -> None:
    """Prints a line on each preset."""
    width = max(map(len, PRESETS))
    for entry in PRESETS.values():
        click.echo(f"{entry.name:<{width}}  {entry.summary(LANG)}")
    click.echo(say("presets_hint", LANG), err=True)


@presets.command("show")
@click.argument("name")
@click.option("--json", is_flag=True, help="Print the values as JSON.")
def show_preset(name: str, json: bool) -> None:
    """Show every value of a preset."""
    entry = preset(name)
    if json:
        click.echo(jsonlib.dumps(to_json(entry.config), ensure_ascii=False, indent=1))
        return
    click.echo(f"{entry.name}: {entry.summary(LANG)}\n")
    for line in settings_table(entry.config, LANG):
        click.echo(line)
    config = entry.config
    rates = {"start": config.learn_rate, "peak": config.peak_learn_rate(), "factor": config.div_factor}
    click.echo("\n" + say("peak_rate", LANG, warmup=config.warmup_steps, **rates))


@cli.group()
def data() -> None:
    """Bring in, look at and check data of your own."""


tokenizer_option = click.option(
    "--tokenizer", type=click.Path(), default=preset("sft-small").config.tokenizer, show_default=True
)
length_option = click.option("--max_seq_len", type=click.IntRange(2), default=512, show_default=True)


def file_config(file: Path, **values: Any) -> RunConfig:
    """Settings under which one file is looked at."""
    config, _ = override(preset("sft-small").config, {"train_file": str(file), **values})
    return config


train_option = click.option(
    "--train", default=preset("sft-small").config.train_file, show_default=True, help="Training file to write."
)
valid_option = click.option(
    "--valid",
    default=preset("sft-small").config.validation_file,
    show_default=True,
    help="Validation file; '' for none.",
)


@data.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@train_option
@valid_option
@click.option("--valid-ratio", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Share held out.")
@click.option("--sample", type=click.IntRange(0), default=0, help="Take so many rows at random; 0: all.")
@click.option("--seed", type=click.IntRange(0), default=23333, show_default=True, help="Seed of sample and split.")
@click.option("--prompt_column", default="prompt", show_default=True)
@click.option("--response_column", default="response", show_default=True)
@click.option("--overwrite", is_flag=True, help="Write over files that are there.")
@click.option("--preview", is_flag=True, help="Write nothing; tell what would come of it.")
@click.option("--json", is_flag=True, help="Print what came of it as one JSON object.")
def data_import(files: tuple[str, ...], preview: bool, json: bool, train: str, valid: str, **how: Any) -> None:
    """Turn JSON, JSON Lines, CSV or Parquet FILES in the usual shapes into training and validation rows."""
    from sft_tui import importing

    if not preview and not train:
        raise click.UsageError("--train names the file to write; --preview writes none.")
    targets = {"train": "", "valid": ""} if preview else {"train": train, "valid": valid}
    with telling() as progress:
        found = importing.bring_in(list(files), progress, **targets, **how)
    if json:
        click.echo(jsonlib.dumps(found, ensure_ascii=False))
        return
    for line in importing.lines(found, LANG):
        click.echo(line)


@data.command("demo")
@train_option
@valid_option
@click.option("--overwrite", is_flag=True, help="Write over files that are there.")
def data_demo(train: str, valid: str, overwrite: bool) -> None:
    """Write the rows of chatterbot-corpus, Chinese and English, to try things with."""
    from sft_tui import importing

    found = importing.bring_in([], task="demo", train=train, valid=valid, overwrite=overwrite)
    for line in importing.lines(found, LANG):
        click.echo(line)


@data.command("tokenizer")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--output", default=preset("sft-small").config.tokenizer, show_default=True, help="Folder to write.")
@click.option("--vocabulary", type=click.IntRange(300), default=4000, show_default=True, help="Tokens at most.")
@click.option("--prompt_column", default="prompt", show_default=True)
@click.option("--response_column", default="response", show_default=True)
def data_tokenizer(files: tuple[str, ...], output: str, vocabulary: int, **columns: str) -> None:
    """Train a tokenizer for a new model on the rows of Parquet FILES."""
    from sft_tui import importing

    with telling() as progress:
        found = importing.train_tokenizer(list(files), output, vocabulary, progress, **columns)
    click.echo(say("tokenizer_trained", LANG, **{**found, "output": text.safe(found["output"])}))


@data.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@tokenizer_option
@length_option
@click.option("--prompt_column", default="prompt", show_default=True)
@click.option("--response_column", default="response", show_default=True)
@click.option("--json", is_flag=True, help="Print the findings as one JSON object.")
def data_check(file: Path, json: bool, **values: Any) -> None:
    """Tell what is wrong with the rows of a Parquet FILE."""
    from sft_tui.preflight import report as reports
    from sft_tui.preflight.check import check_file

    with telling() as progress:
        report = check_file(file_config(file, **values), progress)
    if json:
        click.echo(reports.to_json(report, LANG))
    else:
        for line in reports.lines(report.findings, LANG):
            click.echo(line)
        click.echo(reports.summary(report, LANG), err=True)
    sys.exit(report.exit_code)


@data.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--row", type=click.IntRange(0), default=0, show_default=True, help="Number of the row, from 0.")
@tokenizer_option
@length_option
@click.option("--prompt_column", default="prompt", show_default=True)
@click.option("--response_column", default="response", show_default=True)
@click.option("--json", is_flag=True, help="Print the tokens as one JSON object.")
def data_show(file: Path, row: int, json: bool, **values: Any) -> None:
    """Print what the model really sees of a row: its tokens, what is cut, and what is unknown."""
    from sft_tui import rows

    found = rows.look(file_config(file, **values), row)
    if json:
        click.echo(jsonlib.dumps(found, ensure_ascii=False))
        return
    for line in rows.lines(found, file, row, LANG):
        click.echo(line)


@cli.command()
@no_ui_option
@logs_option
@screen_options
def demo(no_ui: bool, logs: Path, **screen: Any) -> None:
    """Pretrain and fine-tune a small model on chatterbot-corpus: the whole story in a few minutes."""
    from sft_tui import story

    if not no_ui and has_terminal():
        sys.exit(show_screen(logs, demo=True, **screen))
    story.tell(logs, LANG, start)


@cli.command()
@click.option(
    "--model", type=click.Path(), default="model_save/sft_small/best", show_default=True, help="Model folder."
)
@click.option("--max-new-tokens", type=click.IntRange(1), default=128, show_default=True, help="Longest reply.")
@click.argument("prompts", nargs=-1, required=True)
def reply(model: str, max_new_tokens: int, prompts: tuple[str, ...]) -> None:
    """Print the replies of a trained model to PROMPTS, one a line."""
    from sft_tui import story

    for answer in story.replies(model, list(prompts), max_new_tokens):
        click.echo(text.safe(answer))
