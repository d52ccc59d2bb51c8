"""What the engine reports of models that it downloaded or converted."""

from dataclasses import dataclass, field
from typing import Annotated

from engine.contract.bounds import Count, Longest, Name, PathText
from engine.contract.facts import ModelFacts, TokenizerFacts
from engine.contract.messages import Message

LONGEST_LICENCE = 100  # characters
Licence = Annotated[str, Longest(LONGEST_LICENCE)]


@dataclass(frozen=True)
class ConvertedReport:
    """A model that was converted from a GGUF file."""

    path: PathText
    folder: PathText
    name: Name  # as the file calls it
    architecture: Name  # model_type
    parameters: Count
    dtype: Name
    bytes: Count  # of the weights written
    vocabulary: Count
    stops: tuple[Name, ...]  # tokens that end a reply
    template: bool  # whether it came with a chat template
    quantized: tuple[Name, ...] = ()  # kinds of quantized weights, which had lost precision
    notices: tuple[Message, ...] = ()
    licence: Licence = ""


@dataclass(frozen=True)
class FetchedReport:
    """A model that was downloaded: from where, what of it was taken, and what was left out and why."""

    id: Name
    source: Name
    endpoint: PathText
    revision: Name  # the commit
    folder: PathText
    files: Count
    bytes: Count
    downloaded: Count  # bytes that this command received; the others had been downloaded before
    left_out: dict[Name, Count] = field(default_factory=dict)  # files by reason, see engine.obtaining.choice
    licence: Licence = ""
    existed: bool = False  # it was complete before


LONGEST_EXAMPLE = 2000  # characters of a rendered conversation


@dataclass(frozen=True)
class TemplateFacts:
    """A chat template, by what it makes of a conversation of two turns."""

    kind: Name  # the family of templates that it belongs to, such as ChatML; empty if it is of no known one
    stop: Name  # the token that ends an answer; empty if none does
    one_row: bool  # a conversation becomes one row; else the template rewrites earlier turns, and each answer is one
    keeps_thoughts: bool  # thoughts (<think>) of earlier answers stay in the text
    example: Annotated[str, Longest(LONGEST_EXAMPLE)]


@dataclass(frozen=True)
class TrainingNeed:
    """A way of training a model: what learns, and the predicted peak of memory; 0 if it is not predicted."""

    way: Name  # "whole", "lora" or "frozen"
    preset: Name
    settings: dict[Name, Name | int]  # over those of the preset, apart from the model's path
    trained: Count
    bytes: Count


@dataclass(frozen=True)
class ShownModel:
    """What a folder, or a file of weights, holds."""

    model: ModelFacts
    needs: tuple[TrainingNeed, ...]
    micro_batch_tokens: Count  # that the needs are for
    tokenizer: Message | TokenizerFacts | None = None
    template: Message | TemplateFacts | None = None  # None: its family has none
    licence: Licence = ""
    source: Name = ""  # on which hub, or in which file, it was
    revision: Name = ""
