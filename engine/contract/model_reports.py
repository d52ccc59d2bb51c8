"""What the engine reports of models that it downloaded or converted."""

from dataclasses import dataclass, field
from typing import Annotated

from engine.contract.bounds import Count, Longest, Name, PathText
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
