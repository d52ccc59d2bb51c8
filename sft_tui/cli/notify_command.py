"""The command about notices: where they go, and whether they arrive."""

import click

from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG
from sft_tui.output import echo


@click.command()
@click.option("--test", "testing", is_flag=True)
def notify(testing: bool) -> None:
    """Print where notices of runs go."""
    from sft_tui import notifying

    where = notifying.target()
    if not where:
        echo(say("notify.off", LANG, path=text.safe(str(notifying.config_file()))), err=True)
        return
    echo(text.safe(where))
    if testing:
        title, words = say("notify.test", LANG), say("notify.test_text", LANG)
        notifying.deliver(where, notifying.Notice("test", "", "", title, words).harmless())
        echo(say("notify.sent", LANG), err=True)
