"""How the conversations of a data file become rows: what the settings of a run say about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast

from engine.contract.config import RunConfig
from engine.contract.durable import read_json
from engine.contract.inputs import model_folder, tokenizer_folder

# What a family of models makes of the rows of a file: a prompt and its label, or a conversation by a chat template.
RowKind = Literal["pairs", "chat"]
Learn = Literal["answers", "last", "all"]
TooLong = Literal["drop-turns", "drop", "cut"]
MOST_STOPS = 64


@dataclass(frozen=True)
class ChatSettings:
    """The settings that decide which rows a conversation becomes; `stops` are ids that end a reply by the model."""

    template: str = ""
    options: str = ""
    learn: Learn = "answers"
    too_long: TooLong = "drop-turns"
    stops: tuple[int, ...] = ()

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The settings of a run, with the end tokens that its model's folder names."""
        return cls(
            config.chat_template,
            config.template_options,
            cast(Learn, config.learn),
            cast(TooLong, config.too_long),
            stops_of(model_folder(config)) or stops_of(tokenizer_folder(config)),
        )


def stops_of(folder: str) -> tuple[int, ...]:
    """The ids that end a reply by a model's generation settings, or else by its configuration; empty if none do."""
    for name in ("generation_config.json", "config.json"):
        named = read_json((Path(folder) / name).resolve()).get("eos_token_id") if folder else None
        listed: list[Any] = named if isinstance(named, list) else [named]
        found = [one for one in listed[:MOST_STOPS] if isinstance(one, int) and not isinstance(one, bool) and one >= 0]
        if found:
            return tuple(sorted(set(found)))
    return ()
