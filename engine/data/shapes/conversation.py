"""A conversation, which every shape of record becomes, and the rows made from it: one for each answer.

The prompt of a row is the text before the answer. For the first answer that is the question, preceded by the system
text and a line end. If there were earlier turns it is a transcript, in which each turn begins with `Q: ` or `A: `:

    system text
    Q: first question
    A: first answer
    Q: second question
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from engine.data.shapes.account import RefusedError

Role = Literal["system", "user", "assistant", "tool"]
MARKS: dict[Role, str] = {"user": "Q: ", "assistant": "A: "}


def turns_column(prompt_column: str) -> str:
    """The column that records where turns begin in a prompt column, as written by `data import`."""
    return f"{prompt_column}_turns"


class Turn(NamedTuple):
    """What one side says; an answer that is not to be learned only serves as context for later ones.

    `calls` are an answer's calls of tools, a JSON list; `name` and `call_id` say which of them a tool's text answers.
    `beyond` is the reason (`engine.contract.reasons`) why it cannot be part of a prompt or a response; empty for text.
    """

    role: Role
    text: str
    learned: bool = True
    reasoning: str = ""
    calls: str = ""
    name: str = ""
    call_id: str = ""
    beyond: str = ""

    @property
    def empty(self) -> bool:
        """Whether a user or a model says nothing."""
        return self.role in MARKS and not self.calls and not self.text.strip()


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

    @property
    def content(self) -> tuple[str, str]:
        """What equal rows have in common."""
        return self.prompt, self.response

    @property
    def said(self) -> list[tuple[str, str]]:
        """Its texts, after the roles of who says them."""
        return [("user", self.prompt), ("assistant", self.response)]


@dataclass
class Conversation:
    """A system text and turns; `notices` are codes (`engine.contract.reasons`) of what was left out.

    `tools` are those that it may call, a JSON list. `whole` says that it came as a conversation, not as a question and
    its answer.
    """

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    tools: str = ""
    whole: bool = False

    @classmethod
    def of(cls, turns: Iterable[Turn], *, whole: bool = False) -> "Conversation":
        """The conversation of these turns; raises RefusedError if none of them is an answer to something.

        Consecutive turns of one role are joined by a line end. Nothing from an empty turn on is used, nor is what no
        answer follows.
        """
        made = cls(whole=whole)
        for turn in turns:
            made._add(turn)
        made.end_at_empty()
        made._require_answer()
        made.whole = whole or bool(made.system)
        return made

    @classmethod
    def of_pair(cls, prompt: str, response: str, starts: Sequence[int] | None = None) -> "Conversation":
        """The conversation of a row of prompt and response, whose earlier answers are learned in rows of their own.

        `starts` are those that an import recorded; raises ValueError if no turns begin there.
        """
        if not starts:
            return cls(turns=[Turn("user", prompt), Turn("assistant", response)])
        system, turns = parsed(prompt, starts)
        return cls(system, [*turns, Turn("assistant", response)])

    @property
    def all_turns(self) -> list[Turn]:
        """The turns, of which the first is the system text, if there is one."""
        return [Turn("system", self.system), *self.turns] if self.system else self.turns

    @property
    def opening(self) -> str:
        """The text before the first answer that has any before it."""
        least = 0 if self.system else 1
        before = next(place for place, turn in enumerate(self.turns) if turn.role == "assistant" and place >= least)
        return "\n".join(turn.text for turn in self.all_turns[: before + bool(self.system)])

    @property
    def content(self) -> tuple[str, str]:
        """What equal conversations have in common; that of a question and its answer is that of their pair."""
        pair = [Turn("user", self.turns[0].text), Turn("assistant", self.turns[-1].text)]
        if self.turns == pair and not (self.system or self.tools):
            return pair[0].text, pair[1].text
        return repr((self.system, self.turns, self.tools)), ""

    @property
    def said(self) -> list[tuple[str, str]]:
        """Its texts, after the roles of who says them."""
        return [(turn.role, turn.text or turn.calls) for turn in self.all_turns]

    @property
    def answers(self) -> int:
        """How many answers to something are to be learned."""
        return sum(turn.role == "assistant" and turn.learned for turn in self.turns[self._answer_first :])

    @property
    def pair_notices(self) -> list[str]:
        """What is left out of its pairs, in addition to what the conversation itself lacks."""
        thoughts = sum(bool(turn.reasoning) for turn in self.turns)
        return ["thoughts_left_out"] * thoughts + ["answer_first"] * self._answer_first

    def rows(self, history: int | None = None) -> Iterator[Row]:
        """A pair for each answer to be learned; its prompt has at most `history` earlier turns; raises RefusedError.

        A system text after the first turn becomes part of the question that follows.
        """
        opening, turns = "", self._as_text()
        for place, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            first = 0 if history is None else max(0, place - 1 - history)
            prompt, starts = prompt_of(self.system, turns[first:place])
            opening = prompt if history == 0 else opening or prompt
            if turn.learned and prompt:
                yield Row(prompt, turn.text, opening, max(0, place - 1), starts)

    def _as_text(self) -> list[Turn]:
        """The turns as questions and answers; raises RefusedError if one of them, or its tools, are more than text."""
        if self.tools:
            raise RefusedError("tools_in_pairs")
        made = Conversation()
        for turn in self.turns:
            if turn.beyond:
                code, _, detail = turn.beyond.partition(":")
                raise RefusedError(code, detail)
            made._add(turn._replace(role="user") if turn.role == "system" else turn)
        return made.turns

    @property
    def _answer_first(self) -> bool:
        return not self.system and self.turns[0].role == "assistant"

    def _add(self, turn: Turn) -> None:
        if turn.role == "system":
            if not self.turns:
                self.system = _joined(self.system, turn.text)
            elif not turn.empty:
                self._append(turn)
            return
        self._append(turn)

    def _append(self, turn: Turn) -> None:
        last = self.turns[-1] if self.turns else None
        if last is None or last.role != turn.role or turn.role == "tool":
            self.turns.append(turn)
            return
        self.turns[-1] = last._replace(
            text=_joined(last.text, turn.text),
            learned=last.learned and turn.learned,
            reasoning=_joined(last.reasoning, turn.reasoning),
            calls=_all_calls(last.calls, turn.calls),
            beyond=last.beyond or turn.beyond,
        )

    def end_at_empty(self) -> None:
        """Leaves out all from the first empty turn on; raises RefusedError if no answer comes before it."""
        empty = next((place for place, turn in enumerate(self.turns) if turn.empty), None)
        if empty is None:
            return
        if not any(turn.role == "assistant" for turn in self.turns[:empty]):
            raise RefusedError("response_empty" if self.turns[empty].role == "assistant" else "prompt_empty")
        self.notices += ["turn_empty"] * (len(self.turns) > empty + 1)
        del self.turns[empty:]

    def _require_answer(self) -> None:
        last = next((place for place, turn in reversed([*enumerate(self.turns)]) if turn.role == "assistant"), -1)
        if last + 1 < len(self.turns):
            self.notices.append("question_unanswered")
            del self.turns[last + 1 :]
        answers = [turn for turn in self.turns if turn.role == "assistant"]
        asked = answers[1:] if answers and self._answer_first else answers
        if not any(answer.learned for answer in asked):
            raise RefusedError("answer_unlearned" if answers and not any(a.learned for a in answers) else "no_answer")
        self.notices += ["answer_unlearned"] * sum(not answer.learned for answer in answers)


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


def _all_calls(first: str, second: str) -> str:
    return (
        json.dumps(json.loads(first) + json.loads(second), ensure_ascii=False) if first and second else first or second
    )
