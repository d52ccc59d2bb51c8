"""The commands before a run: check, rehearse, and the check of every run."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.contract import events
from engine.contract.config import override, setting_of
from engine.contract.launch import OURS, Launch, Launcher
from engine.contract.presets import preset
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, logs_option, preset_argument, reading_progress, report_environment
from sft_tui.options import GroupedCommand, config_options, given
from sft_tui.output import echo, echo_json, echo_over, terminal_columns

if TYPE_CHECKING:
    from sft_tui.preflight.check import Report
    from sft_tui.preflight.request import CheckRequest
    from sft_tui.rehearsal import Rehearsal

memory_limit_option = click.option("--memory-limit", metavar="SIZE")


@click.command("check", cls=GroupedCommand, lang=LANG)
@preset_argument
@click.option("--json", is_flag=True)
@click.option("--rehearse", "rehearsing", is_flag=True)
@memory_limit_option
@click.option("--nodes", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--gpus", type=click.IntRange(0, 64))
@logs_option
@config_options(LANG, environment=True)
def check_command(
    preset_name: str,
    json: bool,
    rehearsing: bool,
    memory_limit: str | None,
    nodes: int,
    gpus: int | None,
    logs: Path,
    **settings: Any,
) -> None:
    """Find what would make a run fail: data, model, memory, disk."""
    from sft_tui.preflight import report as reports

    launch = launch_of_check(nodes, gpus, settings, rehearsing=rehearsing)
    request = check_request(preset_name, settings, memory_limit, logs, launch)
    report = checked(request)
    if rehearsing and report.may_be_rehearsed:
        rehearsed(request)
        request = check_request(preset_name, settings, memory_limit, logs)
        report = checked(request)
    found = request.rehearsal if rehearsing else None
    if json:
        plain = reports.to_json(report, LANG, rehearsal_json(request, report, found) if found else None)
        echo_json({**plain, "network": network(report, launch)})
        sys.exit(report.exit_code)
    if report.learning is not None:
        echo(text.safe(report.learning.text(LANG)))
    for line in reports.lines(report.findings, LANG, terminal_columns()):
        echo(line)
    if found is not None:
        print_rehearsal(request, report, found)
    print_traffic(report, launch, adapters=request.config.lora_rank > 0)
    echo(reports.summary(report, LANG), err=True)
    if not report.exit_code:
        print_next(request, rehearsed=found is not None)
    sys.exit(report.exit_code)


def launch_of_check(nodes: int, gpus: int | None, settings: dict[str, Any], *, rehearsing: bool) -> Launch:
    """The launch to check by the options of `check`; raises UsageError for options that exclude each other."""
    if nodes == 1 and gpus is None:
        return OURS
    if settings.get("num_processes"):
        raise click.UsageError(say("usage.prepare_processes", LANG))
    if rehearsing:
        raise click.UsageError(say("usage.rehearse_nodes", LANG))
    return asked("torchrun", nodes, gpus, "")


@click.command(cls=GroupedCommand, lang=LANG)
@preset_argument
@click.option("--json", is_flag=True)
@memory_limit_option
@logs_option
@config_options(LANG, environment=True)
def rehearse(preset_name: str, json: bool, memory_limit: str | None, logs: Path, **settings: Any) -> None:
    """Do each part of a run once, and measure what the run takes."""
    from sft_tui.preflight import report as reports

    request = check_request(preset_name, settings, memory_limit, logs)
    report = checked(request)
    if not report.may_be_rehearsed:
        print_problems(report)
        echo(reports.summary(report, LANG), err=True)
        sys.exit(report.exit_code)
    found = rehearsed(request)
    if json:
        echo_json(rehearsal_json(request, report, found))
    else:
        print_rehearsal(request, report, found)
        print_next(request, rehearsed=True)


def print_problems(report: "Report") -> None:
    """Prints what a check found wrong, and what machines must have that it could not look at."""
    from sft_tui.preflight import report as reports
    from sft_tui.preflight.peak import NEEDED_ELSEWHERE

    problems = [finding for finding in report.findings if finding.level != "ok" or finding.code in NEEDED_ELSEWHERE]
    for line in reports.lines(problems, LANG, terminal_columns(err=True)):
        echo(line, err=True)


def print_next(request: "CheckRequest", *, rehearsed: bool) -> None:
    """Prints the command that starts the checked run."""
    from sft_tui.preflight.fix import command_of
    from sft_tui.starting import DEFAULT_LOGS

    if not rehearsed and not request.launch.launcher:
        echo(say("app.next_rehearsal", LANG, rehearse=text.safe(command_of([request.rehearse]))), err=True)
    run = command_of([request.prepare if request.launch.launcher else request.start])
    logs = "" if request.logs == DEFAULT_LOGS else f" --logs {shlex.quote(str(request.logs))}"
    echo(say("app.next_run", LANG, run=text.safe(run + logs)), err=True)


def check_request(
    preset_name: str, settings: dict[str, Any], memory_limit: str | None, logs: Path, launch: Launch = OURS
) -> "CheckRequest":
    """The run to check."""
    from sft_tui.preflight.request import CheckRequest

    values = given(settings)
    report_environment()
    config, _ = override(preset(preset_name).config, values)
    limit = text.parse_size(memory_limit) if memory_limit else 0
    return CheckRequest.of(preset_name, values, config, logs, memory_limit=limit, launch=launch)


def rehearsal_json(request: "CheckRequest", report: "Report", found: "Rehearsal") -> dict[str, Any]:
    """The result of a rehearsal as plain values."""
    from sft_tui import rehearsal

    return rehearsal.to_json(found, request.config, report.steps)


def rehearsed(request: "CheckRequest") -> "Rehearsal":
    """Carries out the rehearsal, showing its progress on a terminal, and keeps the result."""
    from sft_tui.event_text import phase_line
    from sft_tui.preflight.check import rehearse_request

    def show_phase(phase: events.Phase) -> None:
        if phase.name != "training":
            echo_over(say("app.rehearsing", LANG, phase=phase_line(phase, LANG)))

    try:
        return rehearse_request(request, show_phase)
    finally:
        echo_over()


def print_rehearsal(request: "CheckRequest", report: "Report", found: "Rehearsal") -> None:
    """Prints the result of a rehearsal."""
    from sft_tui import rehearsal

    for line in rehearsal.lines(found, request.config, report.steps, LANG):
        echo(line)


def with_rehearsed_budget(request: "CheckRequest", values: dict[str, Any]) -> dict[str, Any]:
    """The values with the budget of a rehearsal that applies to the run, which is printed if it is not the preset's."""
    known = request.rehearsal
    if known is None or request.config == request.asked:
        return values
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.at))
    budgets = {"asked": known.found.micro_batch_tokens_asked, "budget": known.found.micro_batch_tokens}
    echo(say("app.rehearsal_applied", LANG, when=when, **budgets), err=True)
    return {**values, "micro_batch_tokens": request.config.micro_batch_tokens}


def preflight(request: "CheckRequest", *, force: bool) -> "Report":
    """Checks a run before it starts and prints the problems; exits if there are errors. Returns the report."""
    from sft_tui.preflight import report as reports

    report = checked(request)
    print_problems(report)
    echo(reports.summary(report, LANG), err=True)
    if report.exit_code and not force:
        echo(say("app.preflight_refused", LANG), err=True)
        sys.exit(report.exit_code)
    if report.exit_code:
        echo(say("app.preflight_forced", LANG), err=True)
    return report


def checked(request: "CheckRequest") -> "Report":
    """The report of a check; a terminal shows the progress of reading large files."""
    from sft_tui.preflight.check import check

    with reading_progress() as progress:
        return check(request, progress)


def asked(launcher: Launcher, nodes: int, gpus: int | None, endpoint: str) -> Launch:
    """What the launcher will be asked for: without a number of GPUs, that of this machine; raises UsageError."""
    from engine.contract.machine.gpus import in_use
    from sft_tui.starting import processes_here

    if gpus is None:
        gpus = processes_here() if in_use() else 0
    launch = Launch(launcher, nodes, gpus, endpoint)
    most = int(setting_of("num_processes").high or 0)
    if launch.processes > most:
        raise click.UsageError(say("usage.prepare_most", LANG, processes=launch.processes, most=most))
    return launch


def network(report: "Report", launch: Launch) -> dict[str, Any] | None:
    """What the network between machines costs a step: bytes of each process, and seconds by Gbit/s; None on one.

    Where the model is divided among the processes, what it costs a micro-batch.
    """
    from engine.contract.traffic import divided_bytes, gradient_bytes, seconds, sum_seconds

    trained, ranks = report.trained, launch.processes
    if launch.nodes < 2 or not trained:
        return None
    if report.gathered:
        sent = divided_bytes(report.gathered, trained, ranks)
        took = {rate: seconds(sent, rate) for rate in (1, 10)}
    else:
        sent = gradient_bytes(trained, ranks)
        took = {rate: sum_seconds(trained, ranks, rate) for rate in (1, 10)}
    return {"bytes": sent, "seconds": {str(rate): round(found, 3) for rate, found in took.items()}}


def print_traffic(report: "Report", launch: Launch, *, adapters: bool) -> None:
    """Prints on standard error what the network between the machines will cost a step, or a micro-batch.

    `adapters`: whether LoRA, which sends less, is used already.
    """
    if cost := network(report, launch):
        slow, fast = (f"{each:.2f}" if each >= 0.005 else "< 0.01" for each in cost["seconds"].values())
        words = "app.traffic_adapters" if adapters else "app.traffic"
        words = "app.traffic_divided" if report.gathered else words
        echo(say(words, LANG, size=text.size(cost["bytes"]), slow=slow, fast=fast), err=True)
