"""The commands for models: get one from a hub, import one from a GGUF file, look at one."""

from dataclasses import replace
from pathlib import Path

import click

from engine.contract.bounds import as_json
from engine.contract.hub_names import SOURCES, Source, hub_name
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, step_progress
from sft_tui.options import HomePath
from sft_tui.output import echo, echo_json


@click.group()
def model() -> None:
    """Get, import and look at models."""


@model.command("get")
@click.argument("name", metavar="ID")
@click.argument("folder", metavar="[FOLDER]", required=False, type=HomePath(path_type=Path))
@click.option("--revision", metavar="REVISION", default="")
@click.option("--from", "source", type=click.Choice(SOURCES), default=None)
@click.option("--json", is_flag=True)
def model_get(name: str, folder: Path | None, revision: str, source: Source | None, json: bool) -> None:
    """Download the model ID from a hub."""
    from engine.contract.requests import FetchRequest
    from sft_tui import model_files
    from sft_tui.download_progress import download_progress

    named = hub_name(name)
    named = replace(named, revision=revision or named.revision, source=source or named.source or SOURCES[0])
    request = FetchRequest(named.id, str(folder or named.folder), named.revision, named.source or SOURCES[0])
    try:
        with download_progress(LANG) as progress:
            found = model_files.fetch(request, progress)
    except KeyboardInterrupt:
        echo(say("model.interrupted", LANG, id=text.safe(named.id)), err=True)
        raise
    if json:
        echo_json(as_json(found))
        return
    for line in model_files.fetched_lines(found, LANG):
        echo(line)


@model.command("import")
@click.argument("file", metavar="FILE.gguf", type=HomePath(exists=True, dir_okay=False))
@click.argument("folder", metavar="FOLDER", type=HomePath())
@click.option("--json", is_flag=True)
def model_import(file: str, folder: str, json: bool) -> None:
    """Convert a model in a GGUF file to a folder that can be trained."""
    from engine.contract.requests import GgufRequest
    from sft_tui import model_files

    with step_progress(LANG) as progress:
        found = model_files.convert(GgufRequest(file, folder), progress)
    if json:
        echo_json(as_json(found))
        return
    for line in model_files.converted_lines(found, LANG):
        echo(line)


@model.command("show")
@click.argument("path", metavar="PATH", type=HomePath(exists=True))
@click.option("--json", is_flag=True)
def model_show(path: str, json: bool) -> None:
    """Show what a model is, and what training it takes."""
    from engine.contract.machine.host import HostReader
    from sft_tui import model_view

    found = model_view.shown(path)
    if json:
        echo_json(as_json(found))
        return
    for line in model_view.lines(found, path, HostReader().read([], Path()).memory_available, LANG):
        echo(line)
