"""The command that lets a model reply: to the prompts on its command line, or in a conversation."""

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, complete_model, json_option, logs_option, meanwhile, run_option
from sft_tui.options import HomePath
from sft_tui.output import echo, echo_json


@click.command()
@click.option(
    "--model", type=HomePath(), default="model_save/sft_small/best", show_default=True, shell_complete=complete_model
)
@run_option
@logs_option
@click.option("--system", metavar="TEXT", default="")
@click.option(
    "--max_new_tokens",
    "--max-new-tokens",
    type=click.IntRange(1, 1 << 20),
    metavar="N",
    default=256,
    show_default=True,
)
@click.option("--temperature", type=click.FloatRange(0, 100), metavar="T", default=0.0, show_default=True)
@click.option("--top_p", "--top-p", type=click.FloatRange(0, 1), metavar="P", default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", default=0, show_default=True)
@click.option("--chat_template", metavar="TEMPLATE", default="")
@click.option("--template_options", metavar="OPTIONS", default="")
@json_option
@click.argument("prompts", metavar="[PROMPTS]...", nargs=-1)
def reply(
    model: str,
    of_run: str | None,
    logs: Path,
    json: bool,
    prompts: tuple[str, ...],
    temperature: float,
    top_p: float,
    seed: int,
    **how: Any,
) -> None:
    """Print the replies of a trained model to PROMPTS, one a line; without any, hold a conversation."""
    from engine.contract.conversing import Sampling
    from sft_tui import replies
    from sft_tui.cli.terminal_chat import chat, lines_of
    from sft_tui.conversation import Conversation

    if of_run is not None and click.get_current_context().get_parameter_source("model") == ParameterSource.COMMANDLINE:
        raise click.UsageError(say("usage.reply", LANG))
    folder = replies.model_named(model, logs) if of_run is None else replies.model_of_run(of_run, logs)
    how["template_options"] = how["template_options"] or replies.template_options_of(folder)
    sampling = Sampling(temperature, top_p, seed)
    with meanwhile(say("reply.loading", LANG, model=text.safe(str(Path(folder)), 200))):
        conversation = Conversation(folder, sampling=sampling, **how)
    with conversation:
        if not prompts and not json and sys.stdin.isatty() and sys.stdout.isatty():
            chat(conversation, folder, LANG)
            return
        turns = prompts or lines_of(sys.stdin.buffer)
        for prompt in turns:
            found = replies.alone(conversation, prompt) if prompts else conversation.reply(prompt)
            if json:
                echo_json(replies.as_record(prompt, found))
            else:
                echo(text.safe(found.text))
