"""What a model is given when it is to reply: the turns so far as token ids, in the form in which it learned."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from engine.contract.messages import InputError
from engine.contract.reasons import reason_phrase
from engine.data.bounded import Result, Worker, in_time
from engine.data.chat.rows import RowMaker
from engine.data.chat.settings import ChatSettings
from engine.data.chat.templates import ChatTemplate
from engine.data.encoding import cut, encode
from engine.data.shapes.account import RefusedError
from engine.data.shapes.conversation import Turn, prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """The ids before a reply; `left_out` are the oldest turns that did not fit, `cut`: the last one did not either."""

    ids: list[int]
    left_out: int = 0
    cut: bool = False


class Dialogue(Protocol):
    """Makes prompts of turns, which are the user's and the model's in turn, the user's first and last."""

    def ids(self, system: str, turns: Sequence[str]) -> list[int]:
        """The ids of all of it; raises InputError."""
        ...

    def shortened(self, ids: list[int], limit: int) -> list[int]:
        """The ids of the last turn alone, more than `limit`, cut; raises InputError if that is useless."""
        ...


def prompt_within(dialogue: Dialogue, system: str, turns: Sequence[str], limit: int) -> Prompt:
    """The prompt without as many of the oldest questions and answers as it takes to fit; raises InputError."""
    whole = dialogue.ids(system, turns)
    if len(whole) <= limit:
        return Prompt(whole)
    known: dict[int, list[int]] = {}

    def fits(left_out: int) -> bool:
        known[left_out] = dialogue.ids(system, turns[2 * left_out :])
        return len(known[left_out]) <= limit

    most = len(turns) // 2
    left_out = bisect_left(range(most), True, lo=min(1, most), key=fits)
    ids = known.get(left_out) or dialogue.ids(system, turns[2 * left_out :])
    if len(ids) <= limit:
        return Prompt(ids, 2 * left_out)
    return Prompt(dialogue.shortened(ids, limit), 2 * left_out, cut=True)


class Transcript:
    """For models that learned from prompts and responses: see `engine.data.shapes.conversation`."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    def ids(self, system: str, turns: Sequence[str]) -> list[int]:
        """The prompt as `data import` writes it, with the end token; raises InputError."""
        said = [Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(turns)]
        (ids,) = encode([prompt_of(system, said)[0]], self._tokenizer)
        return ids

    def shortened(self, ids: list[int], limit: int) -> list[int]:
        """The first ids and the end token, as in training."""
        return cut(ids, limit)


class Rendered:
    """For models that learned from conversations: the chat template's text up to the generation prompt."""

    def __init__(self, template: ChatTemplate, settings: ChatSettings) -> None:
        """Raises InputError if the template can render nothing in time."""
        self._template = template
        self._worker = Worker("chat template")
        making = partial(RowMaker, template, settings.stops, 1, settings.learn, settings.too_long)
        self._maker = self._done(making, 0)

    @property
    def stops(self) -> frozenset[int]:
        """The tokens of which any ends an answer."""
        return self._maker.stops

    def ids(self, system: str, turns: Sequence[str]) -> list[int]:
        """The ids that an answer has before it in training; raises InputError."""
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(turns)]
        found = self._done(partial(self._rendered, messages), len(system) + sum(map(len, turns)))
        if isinstance(found, RefusedError):
            raise InputError("turn_refused", why=reason_phrase(str(found)))
        return found

    def shortened(self, ids: list[int], limit: int) -> list[int]:
        """Raises InputError: the model has learned no prompt that is cut."""
        raise InputError("turn_too_long", tokens=len(ids), limit=limit)

    def _rendered(self, messages: list[dict[str, str]]) -> list[int] | RefusedError:
        try:
            text = self._template.render(messages, None, prompt=True)
        except RefusedError as error:
            return error
        self._maker.pieces.forget()
        return self._maker.pieces.ids(text)

    def _done(self, work: Callable[[], Result], characters: int) -> Result:
        path = str(self._template.tokenizer.name_or_path)
        return in_time(self._worker.submit(work), path, characters, template=self._template.at_work)


def require_text(text: str, number: int) -> None:
    """Raises InputError if what the user says in a turn is not text that a tokenizer takes."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError("prompt_not_text", number=number)
