"""Which model a person means, and its replies to prompts of which none knows the others."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.bounds import as_json
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from sft_tui import runs

if TYPE_CHECKING:
    from engine.contract.conversing import Replied
    from sft_tui.conversation import Conversation


def alone(conversation: "Conversation", prompt: str) -> "Replied":
    """The reply to a prompt as the first of a conversation; raises InputError."""
    from engine.contract.conversing import Reset

    conversation.change(Reset())
    return conversation.reply(prompt)


def as_record(prompt: str, replied: "Replied") -> dict[str, Any]:
    """A prompt and the account of its reply, as a program reads them."""
    account = as_json(replied)
    return {"prompt": prompt, "reply": account.pop("text"), **account}


def model_named(name: str, logs: Path) -> str:
    """The folder of the model that a person means: a model, what a run writes to, or a run by its name or folder.

    Raises InputError if it is none of these.
    """
    for folder in (Path(name), Path(name) / "best"):
        if (folder / "config.json").is_file():
            return str(folder)
    with contextlib.suppress(InputError):
        return model_of_run(name, logs)
    if not Path(name).is_dir():
        raise InputError("reply_missing", path=name)
    return name


def model_of_run(name: str | None, logs: Path) -> str:
    """The folder of the best model of a run, the newest one if none is named; raises InputError."""
    return str(runs.model_of(runs.read_run(runs.find(logs, name))).best)


def template_options_of(model: str) -> str:
    """The options of the chat template that a run's best model learned with; empty for any other model's folder."""
    output = OutputDir(Path(model).parent)
    return str(output.owner().config.get("template_options", "")) if output.best == Path(model) else ""
