"""A conversation with a model: what the app asks of the process that holds it, and what that answers, a line each.

The process reads `Open` first and answers `Opened`. Each `Say` is answered by `Piece`s of the reply as it is generated
and then `Replied`, each of `System`, `Undo`, `Reset`, `History` and `Choice` by `Changed`, and whatever cannot be done
by `Refused`. A `Stop` ends the reply that is being generated and has no answer of its own. The process ends with its
input.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from engine.contract.bounds import Between, Count, Longest, Name, PathText, Seconds, as_json, read_as
from engine.contract.messages import Message

LONGEST_TURN = 1 << 24  # characters
LONGEST_LINE = 6 * LONGEST_TURN + 1000  # bytes: a character takes six at most in ASCII
MOST_NEW_TOKENS = 1 << 20
MOST_TURNS = 10_000  # of both sides, in a history
Temperature = Annotated[float, Between(0, 100)]
Share = Annotated[float, Between(0, 1)]
Ended = Literal["end", "length", "stopped"]
Text = Annotated[str, Longest(LONGEST_TURN)]
NewTokens = Annotated[int, Between(1, MOST_NEW_TOKENS)]
SPOKEN: dict[str, type["Spoken"]] = {}  # every kind of line, as the classes declare them


@dataclass(frozen=True)
class Spoken:
    """A line of the conversation; `kind` names it on the wire."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Adds the class to the kinds that are read."""
        if cls.kind:
            SPOKEN[cls.kind] = cls


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the most likely one if `temperature` is 0, else drawn.

    Only the most likely tokens whose probabilities sum up to `top_p` are drawn from.
    """

    temperature: Temperature = 0.0
    top_p: Share = 1.0
    seed: Count = 0


@dataclass(frozen=True)
class Open(Spoken):
    """The first line: the model in a folder, a system text, and the longest reply.

    `chat_template` and `template_options` are those settings of a run, for a model that learned from conversations.
    """

    kind: ClassVar[str] = "open"
    model: PathText
    system: Text = ""
    max_new_tokens: NewTokens = 256
    sampling: Sampling = Sampling()
    chat_template: PathText = ""
    template_options: Text = ""


@dataclass(frozen=True)
class Say(Spoken):
    """What the user says next."""

    kind: ClassVar[str] = "say"
    text: Text


@dataclass(frozen=True)
class Stop(Spoken):
    """Ends the reply that is being generated."""

    kind: ClassVar[str] = "stop"


@dataclass(frozen=True)
class System(Spoken):
    """Another system text, for the replies from here on."""

    kind: ClassVar[str] = "system"
    text: Text


@dataclass(frozen=True)
class Undo(Spoken):
    """Takes back the last turn of the user, with its reply."""

    kind: ClassVar[str] = "undo"


@dataclass(frozen=True)
class Reset(Spoken):
    """Forgets all turns; the system text stays."""

    kind: ClassVar[str] = "reset"


@dataclass(frozen=True)
class History(Spoken):
    """The turns of another conversation in place of these, the user's and the model's in turn."""

    kind: ClassVar[str] = "history"
    turns: Annotated[tuple[Text, ...], Longest(MOST_TURNS)]


@dataclass(frozen=True)
class Choice(Spoken):
    """Another way to choose tokens, and another longest reply, from the next reply on; the seed begins again."""

    kind: ClassVar[str] = "choice"
    sampling: Sampling
    max_new_tokens: NewTokens


@dataclass(frozen=True)
class Opened(Spoken):
    """The model is loaded. `rows`: whether it learned from "pairs" or "chat"; `positions`: tokens that it can see."""

    kind: ClassVar[str] = "opened"
    family: Name
    rows: Literal["pairs", "chat"]
    positions: Count


@dataclass(frozen=True)
class Piece(Spoken):
    """More of the reply's text, as the model gave it."""

    kind: ClassVar[str] = "piece"
    text: Text


@dataclass(frozen=True)
class Replied(Spoken):
    """The whole reply. `ended`: by the model's own stop, at the longest reply, or since it was stopped.

    `prompt_tokens` were before it; `left_out` are the oldest turns that no longer fit, and `cut` says that even the
    last one did not.
    """

    kind: ClassVar[str] = "replied"
    text: Text
    ended: Ended
    tokens: Count
    seconds: Seconds
    prompt_tokens: Count = 0
    left_out: Count = 0
    cut: bool = False


@dataclass(frozen=True)
class Changed(Spoken):
    """The conversation as it is now: the number of turns of the user."""

    kind: ClassVar[str] = "changed"
    turns: Count


@dataclass(frozen=True)
class Refused(Spoken):
    """What could not be done, and what to do; after `fatal` the process ends."""

    kind: ClassVar[str] = "refused"
    message: Message
    fatal: bool = False


def line_of(spoken: Spoken) -> bytes:
    """The line, with its end: ASCII, so that no character of it can end a line or be cut in two."""
    return json.dumps({"kind": spoken.kind, **as_json(spoken)}, separators=(",", ":")).encode("ascii") + b"\n"


def read_line(line: bytes) -> Spoken:
    """The line read back; raises TypeError or ValueError if it is none of these."""
    values: Any = json.loads(line)
    kind = values.pop("kind", None) if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in SPOKEN:
        raise ValueError("not a line of a conversation")
    return read_as(SPOKEN[kind], values)
