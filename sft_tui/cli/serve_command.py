"""The command that shows the screen in a browser."""

from pathlib import Path

import click

from engine.contract.messages import InputError
from engine.contract.texts import LANGS, Lang, say
from sft_tui.cli.common import LANG, THEMES, logs_option
from sft_tui.output import echo

LOCAL = "127.0.0.1"


@click.command()
@click.option("--host", default=LOCAL, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--theme", type=click.Choice(THEMES), default="auto", show_default=True)
@click.option("--lang", type=click.Choice(LANGS), default=None)
@logs_option
def serve(host: str, port: int, theme: str, lang: Lang | None, logs: Path) -> None:
    """Show the screen in a browser."""
    try:
        from sft_tui.serving import browser_server
    except ModuleNotFoundError as error:
        raise InputError("serve_missing", module=str(error.name)) from None
    listener = browser_server.listening(host, port)
    served = browser_server.Served(host, listener.getsockname()[1], logs, lang or LANG, theme)
    echo(served.address)
    if not browser_server.is_here(host):
        echo(say("serve.open_to_others", LANG, host=host, port=served.port), err=True)
    echo(say("serve.how_to_end", LANG), err=True)
    browser_server.serve(served, listener)
