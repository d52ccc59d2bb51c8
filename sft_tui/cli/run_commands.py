"""The commands for runs that exist: runs, status, note, attach, logs, stop and pause."""

import sys
from pathlib import Path
from typing import Any

import click

from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli import showing
from sft_tui.cli.common import LANG, complete_run, json_option, logs_option, no_ui_option, run_argument, screen_options
from sft_tui.cli.showing import meant
from sft_tui.output import echo, echo_json, terminal_columns

ORDERS = ("started", "eval", "best", "time", "run")  # those of run_order, which is imported only where it is needed
LEVELS = ("all", "notes", "warnings")  # those of log_fold


@click.command()
@click.option("--sort", type=click.Choice(ORDERS), default=ORDERS[0], show_default=True)
@click.option("--json", is_flag=True)
@logs_option
def runs(sort: str, json: bool, logs: Path) -> None:
    """List the runs, the newest first."""
    from sft_tui import listing, notes
    from sft_tui.run_order import ordered
    from sft_tui.runs import all_runs

    found = ordered(list(all_runs(logs)), sort)
    if json:
        echo_json([one.to_json() for one in found], indent=1)
    elif not found:
        echo(say("app.no_runs", LANG, path=text.safe(str(logs))), err=True)
    else:
        noted = {one.name: notes.read(one.run_dir) for one in found}
        for line in listing.table(found, LANG, terminal_columns(), noted):
            echo(line)


@click.command()
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


@click.command()
@run_argument
@no_ui_option
@json_option
@logs_option
@screen_options
def attach(name: str | None, json: bool, no_ui: bool, logs: Path, **screen: Any) -> None:
    """Open the screen on RUN, or follow it as text."""
    from sft_tui import following, headless

    run_dir = meant(name, logs)
    if not (no_ui or json) and showing.has_terminal():
        sys.exit(showing.show_screen(run_dir.path.parent, run=run_dir.path.name, **screen))
    code = following.follow(run_dir, headless.choose_view(LANG, json=json), LANG)
    if code:
        sys.exit(code)


@click.command()
@click.argument("name", metavar="RUN", shell_complete=complete_run)
@click.argument("words", metavar="[TEXT]", required=False)
@click.option("--tag", "tags", metavar="TAG", multiple=True)
@click.option("--json", is_flag=True)
@logs_option
def note(name: str, words: str | None, tags: tuple[str, ...], json: bool, logs: Path) -> None:
    """Show what you noted about RUN, or note TEXT."""
    from engine.contract.bounds import as_json
    from sft_tui import notes
    from sft_tui import runs as known

    run_dir = known.find(logs, name)
    found = notes.read(run_dir)
    if words is not None or tags:
        kept = list(filter(None, tags)) if tags else found.tags
        found = notes.checked(found.text if words is None else " ".join(words.split()), kept)
        notes.write(run_dir, found)
    if json:
        echo_json(as_json(found))
    elif line := found.line():
        echo(text.safe(line))
    else:
        echo(say("app.no_note", LANG, run=text.safe(run_dir.path.name)), err=True)


@click.command("logs")
@run_argument
@click.option("--json", is_flag=True)
@click.option("--trainer", is_flag=True)
@click.option("--search", "words", metavar="WORDS")
@click.option("--level", type=click.Choice(LEVELS))
@logs_option
def show_logs(name: str | None, json: bool, trainer: bool, words: str | None, level: str | None, logs: Path) -> None:
    """Print what RUN has written so far."""
    from sft_tui import listing

    run_dir = meant(name, logs)
    if trainer:
        listing.print_output(run_dir)
    elif words is not None or level is not None:
        found = listing.print_found(run_dir, LANG, words=words or "", level=level or "all", json=json)
        if not found and words:
            echo(say("screen.no_line", LANG, words=text.safe(words, 40)), err=True)
            sys.exit(1)
    else:
        listing.print_events(run_dir, LANG, json=json)


@click.command()
@run_argument
@click.option("--now", is_flag=True)
@click.option("--no-wait", is_flag=True)
@logs_option
def stop(name: str | None, now: bool, no_wait: bool, logs: Path) -> None:
    """Save and end RUN, and print how it ended."""
    ask(name, logs, now=now, why="stop", said="app.ending" if now else "app.stopping", wait=not no_wait)


@click.command()
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
