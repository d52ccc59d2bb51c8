"""A conversation, which every shape of record becomes, and the rows that it makes: one for each answer.

The prompt of a row is what stands before the answer. For the first answer that is the question, with the system text
and a line end before it. Where turns came earlier it is a transcript, in which each turn begins with `Q: ` or `A: `:

    system text
    Q: first question
    A: first answer
    Q: second question
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from engine.data.account import RefusedError

Role = Literal["system", "user", "assistant"]
MARKS: dict[Role, str] = {"user": "Q: ", "assistant": "A: "}


class Turn(NamedTuple):
    """What one side says; an answer that is not to be learned is only read by later ones."""

    role: Role
    text: str
    learned: bool = True


class Row(NamedTuple):
    """What is written, and how many turns came before the question.

    Rows of one conversation, and of others that begin with the same prompt, have an equal `opening`.
    """

    prompt: str
    response: str
    opening: str
    earlier: int = 0


@dataclass
class Conversation:
    """A system text and turns that alternate; `notices` are codes (`engine.contract.reasons`) of what was left out."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, turns: Iterable[Turn]) -> "Conversation":
        """The conversation of these turns; raises RefusedError where none of them is an answer to something.

        Turns of one role that follow each other are joined by a line end. A system text after the first turn is part of
        the question that follows. From an empty turn on nothing is used, nor is a question without an answer.
        """
        made = cls()
        for turn in turns:
            made._add(turn)
        made._end_at_empty()
        made._require_answer()
        return made

    def rows(self, history: bool = True) -> Iterator[Row]:
        """A row for each answer that is to be learned; without `history` its prompt has no earlier turns."""
        opening = ""
        for place, turn in enumerate(self.turns):
            if turn.role != "assistant":
                continue
            before = self.turns[:place] if history else self.turns[max(0, place - 1) : place]
            prompt = self._prompt(before)
            opening = (opening or prompt) if history else prompt
            if turn.learned and prompt:
                yield Row(prompt, turn.text, opening, max(0, place - 1))

    def _prompt(self, turns: list[Turn]) -> str:
        alone = len(turns) == 1 and turns[0].role == "user"
        texts = [turn.text if alone else f"{MARKS[turn.role]}{turn.text}" for turn in turns]
        return "\n".join([self.system] * bool(self.system) + texts)

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


def _joined(first: str, second: str) -> str:
    return "\n".join(text for text in (first, second) if text.strip())
