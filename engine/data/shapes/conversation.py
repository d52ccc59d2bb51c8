"""A conversation, which every shape of record becomes, and the rows made from it: one for each answer.

The prompt of a row is the text before the answer. For the first answer that is the question, preceded by the system
text and a line end. If there were earlier turns it is a transcript, in which each turn begins with `Q: ` or `A: `:

    system text
    Q: first question
    A: first answer
    Q: second question
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from engine.data.shapes.account import RefusedError

Role = Literal["system", "user", "assistant"]
MARKS: dict[Role, str] = {"user": "Q: ", "assistant": "A: "}


def turns_column(prompt_column: str) -> str:
    """The column that records where turns begin in a prompt column, as written by `data import`."""
    return f"{prompt_column}_turns"


class Turn(NamedTuple):
    """What one side says; an answer that is not to be learned only serves as context for later ones."""

    role: Role
    text: str
    learned: bool = True


class Row(NamedTuple):
    """The texts to write, and how many turns came before the question, whether or not the prompt contains them.

    Rows of one conversation, and of others that begin with the same prompt, have the same `opening`. `starts` are the
    positions in the prompt, in characters, where its turns begin; empty if it has no earlier ones.
    """

    prompt: str
    response: str
    opening: str
    earlier: int = 0
    starts: tuple[int, ...] = ()


@dataclass
class Conversation:
    """A system text and alternating turns; `notices` are codes (`engine.contract.reasons`) of what was left out."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, turns: Iterable[Turn]) -> "Conversation":
        """The conversation of these turns; raises RefusedError if none of them is an answer to something.

        Consecutive turns of one role are joined by a line end. A system text after the first turn becomes part of the
        question that follows. Nothing from an empty turn on is used, nor is a question without an answer.
        """
        made = cls()
        for turn in turns:
            made._add(turn)
        made._end_at_empty()
        made._require_answer()
        return made

    def rows(self, history: int | None = None) -> Iterator[Row]:
        """A row for each answer that is to be learned; its prompt has at most `history` earlier turns."""
        opening = ""
        for place, turn in enumerate(self.turns):
            if turn.role != "assistant":
                continue
            first = 0 if history is None else max(0, place - 1 - history)
            prompt, starts = prompt_of(self.system, self.turns[first:place])
            opening = prompt if history == 0 else opening or prompt
            if turn.learned and prompt:
                yield Row(prompt, turn.text, opening, max(0, place - 1), starts)

    def _add(self, turn: Turn) -> None:
        if turn.role == "system":
            if not self.turns:
                self.system = _joined(self.system, turn.text)
                return
            turn = turn._replace(role="user")
        last = self.turns[-1] if self.turns else None
        if last is None or last.role != turn.role:
            self.turns.append(turn)
            return
        self.turns[-1] = Turn(turn.role, _joined(last.text, turn.text), last.learned and turn.learned)

    def _end_at_empty(self) -> None:
        empty = next((place for place, turn in enumerate(self.turns) if not turn.text.strip()), None)
        if empty is None:
            return
        if not any(turn.role == "assistant" for turn in self.turns[:empty]):
            raise RefusedError("response_empty" if self.turns[empty].role == "assistant" else "prompt_empty")
        self.notices += ["turn_empty"] * (len(self.turns) > empty + 1)
        del self.turns[empty:]

    def _require_answer(self) -> None:
        if self.turns and self.turns[-1].role == "user":
            self.notices.append("question_unanswered")
            del self.turns[-1]
        answers = [turn for turn in self.turns if turn.role == "assistant"]
        asked = answers if self.system or (self.turns and self.turns[0].role == "user") else answers[1:]
        if not any(answer.learned for answer in asked):
            raise RefusedError("answer_unlearned" if answers and not any(a.learned for a in answers) else "no_answer")
        self.notices += ["answer_unlearned"] * sum(not answer.learned for answer in answers)
        if self.turns[0].role == "assistant" and not self.system:
            self.notices.append("answer_first")


def prompt_of(system: str, turns: Sequence[Turn]) -> tuple[str, tuple[int, ...]]:
    """The prompt of a system text and turns, and where in it the turns begin; no positions for a single question."""
    if len(turns) <= 1 and all(turn.role == "user" for turn in turns):
        return "\n".join([system] * bool(system) + [turn.text for turn in turns]), ()
    prompt, starts = system, []
    for turn in turns:
        prompt += "\n" * bool(prompt)
        starts.append(len(prompt))
        prompt += f"{MARKS[turn.role]}{turn.text}"
    return prompt, tuple(starts)


def parsed(prompt: str, starts: Sequence[int]) -> tuple[str, list[Turn]]:
    """The system text and the turns of a prompt; raises ValueError if its turns do not begin at `starts`."""
    turns = []
    for start, end in zip(starts, [*starts[1:], len(prompt) + 1], strict=True):
        if start < 0 or end <= start:
            raise ValueError("the places of turns are out of order")
        role = next((role for role, mark in MARKS.items() if prompt.startswith(mark, start)), None)
        if role is None:
            raise ValueError("no turn begins there")
        turns.append(Turn(role, prompt[start + len(MARKS[role]) : end - 1], learned=False))
    system = prompt[: max(0, starts[0] - 1)] if starts else prompt
    if not starts or turns[-1].role != "user" or prompt_of(system, turns) != (prompt, tuple(starts)):
        raise ValueError("its turns begin elsewhere")
    return system, turns


def _joined(first: str, second: str) -> str:
    return "\n".join(text for text in (first, second) if text.strip())
