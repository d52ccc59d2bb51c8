"""How the commands show a run: on the screen if there is a terminal, else as text; and which run is meant."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import text
from sft_tui.cli.common import LANG
from sft_tui.output import echo

if TYPE_CHECKING:
    from sft_tui.starting import Opened


def show_screen(
    logs: Path,
    *,
    run: str = "",
    demo: str = "",
    chat: Sequence[str] = (),
    theme: str,
    lang: Lang | None,
    ascii_only: bool,
    slow_link: bool,
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
    show(Options(logs, chosen, ink, slow_link, run, demo, tuple(chat)))


def has_terminal() -> bool:
    """Whether a screen can be shown here."""
    from sft_tui.screen import terminal

    return terminal.is_available()


@dataclass(frozen=True)
class Presentation:
    """How a run started here is shown: on the screen if there is a terminal, else as text."""

    json: bool = False
    detach: bool = False
    screen: bool = False


def launch(record: RunRecord, logs: Path, view: Presentation) -> None:
    """Starts a planned run and shows it, or leaves it in the background; exits with the run's code unless it is 0."""
    from sft_tui import following, headless, starting

    message = starting.why_nothing_to_do(record)
    if message is not None:
        echo(text.safe(message.what(LANG)))
        echo(say("app.fix", LANG, text=text.safe(message.fix(LANG))), err=True)
        return
    if record.launch.launcher:
        print_launch(starting.prepare(logs, record))
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


def print_launch(opened: "Opened") -> None:
    """Prints the lines that start a prepared run, and on standard error what to do with them."""
    from sft_tui import launch_lines

    launch, run = opened.record.launch, text.safe(opened.record.run)
    lines = launch_lines.write(opened.run_dir, opened.record)
    for line in lines:
        echo(text.safe(line, 20_000))
    counts = {"nodes": launch.nodes, "gpus": launch.gpus, "processes": launch.processes}
    echo(say("app.prepared_gpus" if launch.gpus else "app.prepared_cpu", LANG, run=run, **counts), err=True)
    how = "alone" if launch.nodes == 1 else "each" if len(lines) == launch.nodes else "first"
    how = "slurm" if launch.launcher == "slurm" else how
    option = "--node-rank" if launch.launcher == "torchrun" else "--machine_rank"
    host, last = text.safe(launch.meeting[0]), launch.nodes - 1
    echo(say(f"app.prepared_{how}", LANG, nodes=launch.nodes, host=host, option=option, last=last), err=True)
    echo(say("app.prepared_then", LANG, run=run), err=True)


def meant(name: str | None, logs: Path) -> RunDir:
    """The run that a command applies to; if none is named, prints which others are alive. Raises InputError."""
    from sft_tui import runs as known

    run_dir = known.find(logs, name)
    others = known.others_running(logs, but=run_dir) if name is None else []
    if others:
        shown = ", ".join(text.safe(other, 60) for other in others)
        echo(say("app.others_at_work", LANG, run=text.safe(run_dir.path.name, 60), others=shown), err=True)
    return run_dir
