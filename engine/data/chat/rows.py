"""Conversations as rows of token ids that are faithful by construction.

A token is learned if and only if the model would have to produce it, behind exactly the ids that it would have before
it in use. So for each answer the template renders what comes before it with the generation prompt, and with the
answer; the second must begin with the first, and what it has beyond that is learned, up to and including its first
stop token. If the ids before an answer begin with those of the row so far, the row continues, else another one begins:
a template that rewrites earlier turns, such as one that drops a model's thoughts from them, makes a row of each answer.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.contract.texts import Phrase
from engine.data.chat.conversations import Chat
from engine.data.chat.pieces import Pieces
from engine.data.chat.settings import Learn, TooLong
from engine.data.chat.templates import ChatTemplate, Message
from engine.data.chat.unwritten import unwritten_parts
from engine.data.shapes.account import RefusedError

Span = tuple[int, int]
NEXT = {"role": "user", "content": "A"}  # what would come after the last turn of a conversation
ASKED, ANSWERED = {"role": "user", "content": "AYA"}, {"role": "assistant", "content": "BXB"}


@dataclass
class ChatRow:
    """Ids with their learned spans; `answer` is the message of the last span, `left_out` counts turns before it."""

    ids: list[int]
    spans: list[Span]
    answer: int
    first: int
    left_out: int


@dataclass
class Made:
    """The rows of a conversation, and what became of its answers."""

    rows: list[ChatRow] = field(default_factory=list)
    rewritten: int = 0  # rows that begin since the template rewrites what came before
    too_long: int = 0  # answers that do not fit
    longest: int = 0  # ids of the longest row if nothing were left out
    unwritten: frozenset[str] = frozenset()  # parts of conversations that the template does not write


@dataclass(frozen=True)
class Turn:
    """The ids of what comes before an answer, and of the answer, in one conversation."""

    before: list[int]
    answer: list[int]

    @property
    def size(self) -> int:
        """The number of ids."""
        return len(self.before) + len(self.answer)


class RowMaker:
    """Makes rows of at most `limit` ids."""

    def __init__(
        self, template: ChatTemplate, stops: Sequence[int], limit: int, learn: Learn, too_long: TooLong
    ) -> None:
        self._template, self._limit, self._learn, self._too_long = template, limit, learn, too_long
        probe = self._probe()
        self.unwritten = unwritten_parts(template) if probe else frozenset()
        self.pieces = Pieces(template.tokenizer, probe)
        own = {template.tokenizer.eos_token_id, *stops, *self._end_of_turn(probe)}
        self._rendered: dict[int, str] = {}  # whole conversations, by their identity
        self.stops: frozenset[int] = frozenset(number for number in own if number is not None)

    def rows(self, chat: Chat) -> Made:
        """The rows of a conversation; raises RefusedError if it makes none."""
        made = Made(unwritten=self.unwritten)
        if self._learn == "all":
            self._whole(chat, made)
        else:
            self._answers(chat, made)
        if not made.rows:
            raise RefusedError("conversation_too_long")
        return made

    def begin(self, chats: Sequence[Chat]) -> None:
        """Tokenizes at once nearly all that the rows of these conversations consist of."""
        self.pieces.forget()
        self._rendered.clear()
        for chat in chats:
            with contextlib.suppress(RefusedError):  # which is raised again when its rows are made
                whole = self._template.render(chat.messages[: chat.answers[-1] + 1], chat.tools, prompt=False)
                self._rendered[id(chat)] = whole
        self.pieces.learn(self._rendered.values())

    # --- which part of a conversation a row has

    def _answers(self, chat: Chat, made: Made) -> None:
        """Every answer, or the last, each once, behind as many of the turns before it as fit."""
        start = chat.head
        chosen = chat.answers[-1:] if self._learn == "last" else chat.answers
        for answer in chosen:
            turn = self._turn(chat, start, answer)
            made.longest = max(made.longest, turn.size) if start == chat.head else made.longest
            if turn.size > self._limit:
                shorter = self._shorter(chat, start, answer, last=answer == chosen[-1])
                if shorter is None:
                    if self._leaves_out(answer, chosen, made):
                        return
                    continue
                start, turn = shorter
            span = (len(turn.before), turn.size)
            row = made.rows[-1] if made.rows else None
            if row is not None and row.first == start and turn.before[: len(row.ids)] == row.ids:
                row.ids, row.answer = turn.before + turn.answer, answer
                row.spans.append(span)
                continue
            made.rewritten += row is not None and row.first == start
            made.rows.append(ChatRow(turn.before + turn.answer, [span], answer, start, start - chat.head))

    def _whole(self, chat: Chat, made: Made) -> None:
        """Every token but the first, up to the last answer; what does not fit is continued in another row."""
        start = chat.head
        for answer in chat.answers:
            turn = self._turn(chat, start, answer)
            made.longest = max(made.longest, turn.size) if start == chat.head else made.longest
            if turn.size > self._limit:
                alone = max(one for one in chat.exchanges() if one <= answer)
                shorter = self._turn(chat, alone, answer)
                if self._too_long != "drop-turns" or shorter.size > self._limit:
                    if self._leaves_out(answer, chat.answers, made):
                        return
                    continue
                start, turn = alone, shorter
            if made.rows and made.rows[-1].first == start:
                made.rows.pop()
            spans = [(1, len(turn.before)), (len(turn.before), turn.size)]
            made.rows.append(ChatRow(turn.before + turn.answer, spans, answer, start, start - chat.head))

    def _leaves_out(self, answer: int, chosen: Sequence[int], made: Made) -> bool:
        """Counts an answer that does not fit; whether the answers after it are left out with it."""
        if self._too_long == "drop":
            raise RefusedError("conversation_too_long")
        after = sum(one > answer for one in chosen) if self._too_long == "cut" else 0
        made.too_long += 1 + after
        return self._too_long == "cut"

    def _shorter(self, chat: Chat, start: int, answer: int, *, last: bool) -> tuple[int, Turn] | None:
        """The turn behind just as many of the latest exchanges as fit; None if it does not fit behind any.

        If more answers follow they get room: the row has at most half of the limit, unless its last exchange has more.
        """
        starts = [one for one in chat.exchanges() if start < one <= answer]
        if not starts or self._too_long != "drop-turns":
            return None
        found = self._turn(chat, starts[-1], answer)
        if found.size > self._limit:
            return None
        room = self._limit if last or found.size > self._limit // 2 else self._limit // 2
        low, high = 0, len(starts) - 1
        while low < high:
            middle = (low + high) // 2
            turn = self._turn(chat, starts[middle], answer)
            if turn.size <= room:
                high, found = middle, turn
            else:
                low = middle + 1
        return starts[high], found

    # --- a turn: what is learned of it, and what comes before that

    def _turn(self, chat: Chat, start: int, answer: int) -> Turn:
        """An answer behind the system texts and the messages from `start` on; raises RefusedError."""
        history = [*chat.messages[: chat.head], *chat.messages[start:answer]]
        before = self._template.render(history, chat.tools, prompt=True)
        whole = self._rendered.get(id(chat), "") if start == chat.head and answer == chat.answers[-1] else ""
        whole = whole or self._template.render([*history, chat.messages[answer]], chat.tools, prompt=False)
        if not whole.startswith(before):
            raise RefusedError("template_rewrites")
        ids = self.pieces.ids(before)
        if not ids:
            raise RefusedError("nothing_before")
        rest = self.pieces.behind(before, ids, whole[len(before) :])
        end = next((at for at, number in enumerate(rest) if number in self.stops), None)
        if end == 0 or self._unsaid(chat.messages[answer]):
            raise RefusedError("answer_unwritten")
        if end is None:
            rest = self._with_next(chat, answer, [*history, chat.messages[answer]], before, ids, rest)
            return Turn(ids, rest)
        return Turn(ids, rest[: end + 1])

    def _unsaid(self, answer: Message) -> bool:
        """Whether an answer only calls tools, which the template does not write."""
        return "tool_calls" in self.unwritten and "tool_calls" in answer and not answer["content"].strip()

    def _with_next(
        self, chat: Chat, answer: int, said: list[Message], before: str, ids: list[int], rest: list[int]
    ) -> list[int]:
        """An answer with the token that begins the next turn, if that is what ends a turn; raises RefusedError."""
        after = next((one for one in chat.messages[answer + 1 :] if one["role"] != "assistant"), NEXT)
        text = self._template.render([*said, after], chat.tools, prompt=False)
        if text.startswith(before):
            more = self.pieces.behind(before, ids, text[len(before) :])
            if more[: len(rest)] == rest and len(more) > len(rest) and more[len(rest)] in self.stops:
                return more[: len(rest) + 1]
        raise RefusedError("answer_without_stop")

    def _probe(self) -> list[str]:
        """A question with the generation prompt, and with its answer; empty if the template refuses them.

        Raises InputError if it leaves out what they say, as one does that expects parts of text and images.
        """
        try:
            asked = self._template.render([ASKED], None, prompt=True)
            answered = self._template.render([ASKED, ANSWERED], None, prompt=False)
        except RefusedError:
            return []
        if ASKED["content"] not in asked or ANSWERED["content"] not in answered:
            raise self._template.bad(Phrase("why.template_ignores"))
        return [asked, answered]

    def _end_of_turn(self, probe: Sequence[str]) -> list[int]:
        """The added token, if there is one, with which the template ends an answer."""
        tail = probe[1].rpartition(ANSWERED["content"])[2] if probe else ""
        added = self._template.tokenizer.added_tokens_decoder
        return [number for number in self.pieces.ids(tail) if number in added and added[number].content.strip()][:1]
