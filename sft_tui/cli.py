"""The command line: thin commands over the functions that do the work."""

import importlib.metadata
import json as jsonlib
import sys
from pathlib import Path
from typing import Any

import click

from engine.contract.config import to_json
from engine.contract.messages import InputError, Lang
from engine.contract.presets import PRESETS, preset
from sft_tui import text
from sft_tui.locale import language, say
from sft_tui.options import SETTINGS, GroupedCommand, config_options, given, settings_table

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


@click.group(context_settings=SETTINGS)
@click.version_option(importlib.metadata.version("sft-tui"), prog_name="sft-tui")
def cli() -> None:
    """Fine-tune small chat models on small machines, from a terminal."""


NO_UI = "Follow the run here as text, bars on a terminal and plain lines elsewhere; so far the only way."
JSON = "Print the run's events, one JSON object a line."
LOGS = "Folder of the runs' logs."


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@click.option("--no-ui", is_flag=True, expose_value=False, help=NO_UI)
@click.option("--json", is_flag=True, help=JSON)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in the output folder.")
@click.option("--fresh", is_flag=True, help="Start anew where an unfinished run lies, and keep that aside.")
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help=LOGS)
@config_options(LANG)
def run(preset_name: str, json: bool, resume: bool, fresh: bool, logs: Path, **settings: Any) -> None:
    """Train as PRESET says, with any of its settings overridden."""
    if resume and fresh:
        raise click.UsageError("--resume goes on with a run, --fresh starts anew: give one of them.")
    start(preset_name, given(settings), job="train", json=json, resume=resume, fresh=fresh, logs=logs)


@cli.command(cls=GroupedCommand, lang=LANG)
@click.argument("preset_name", metavar="PRESET")
@click.option("--json", is_flag=True, help=JSON)
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help=LOGS)
@config_options(LANG)
def test(preset_name: str, json: bool, logs: Path, **settings: Any) -> None:
    """Evaluate the best model of PRESET's output folder on its test file."""
    start(preset_name, given(settings), job="test", json=json, logs=logs)


def start(name: str, values: dict[str, Any], *, logs: Path, json: bool = False, **how: Any) -> None:
    """Plans, starts and follows a run; exits with the run's code unless it is 0."""
    from dataclasses import replace

    from sft_tui import headless, starting, supervisor

    record = starting.plan_run(name, values, **how)
    if not record.processes:
        record = replace(record, processes=1 if supervisor.cpu_asked() else max(1, supervisor.gpu_count()))
    run_dir, record = starting.open_run_dir(logs, record)
    code = headless.run(run_dir, record, headless.choose_view(LANG, json=json), LANG)
    if code:
        sys.exit(code)


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


@cli.command()
@click.option("--logs", type=click.Path(path_type=Path), default=Path("logs"), show_default=True, help=LOGS)
def demo(logs: Path) -> None:
    """Pretrain and fine-tune a small model on chatterbot-corpus: the whole story in a few minutes."""
    from sft_tui import story

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
