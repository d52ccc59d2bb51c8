"""A conversation with a model: its turns, and replies that come token by token."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from engine.contract.conversing import Ended, Piece, Replied
from engine.models.network import Choose, Network
from engine.replying.dialogue import Dialogue, prompt_within, require_text
from engine.replying.reply_text import ReplyText


@dataclass
class Conversation:
    """The turns so far, the user's and the model's in turn; a prompt has at most `limit` tokens, a reply `longest`.

    Of a model that sees prompt and reply together, `context` is how many tokens that is; 0 for any other.
    """

    network: Network
    tokenizer: PreTrainedTokenizerBase
    dialogue: Dialogue
    stops: frozenset[int]
    choose: Choose
    limit: int
    longest: int
    context: int = 0
    system: str = ""
    turns: list[str] = field(default_factory=list)

    def say(self, text: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[Piece | Replied]:
        """The reply to one more turn, piece by piece, and the account of it, with which both turns count.

        `stopped` is asked before each token. Raises InputError.
        """
        require_text(text, 1 + len(self.turns) // 2)
        began = time.perf_counter()
        prompt = prompt_within(self.dialogue, self.system, [*self.turns, text], self.limit)
        reply, count = ReplyText(self.tokenizer), 0
        ended: Ended = "length"
        with closing(self.network.reply_tokens(torch.tensor(prompt.ids), self.choose)) as tokens:
            while count < self.longest:
                if stopped():
                    ended = "stopped"
                    break
                token = next(tokens)
                count += 1
                if token in self.stops:
                    ended = "end"
                    break
                if more := reply.add(token):
                    yield Piece(more)
        if more := reply.rest():
            yield Piece(more)
        self.turns += [text, reply.whole]
        seconds, before = time.perf_counter() - began, len(prompt.ids)
        yield Replied(reply.whole, ended, count, seconds, before, prompt.left_out, prompt.cut)

    def choose_by(self, choose: Choose, longest: int) -> None:
        """Chooses tokens in another way from the next reply on, which has at most `longest` tokens."""
        self.choose = choose
        self.longest = min(longest, max(1, self.context // 2)) if self.context else longest
        if self.context:
            self.limit = self.context - self.longest

    def take(self, turns: Sequence[str]) -> None:
        """Takes the turns of another conversation; raises InputError if one is not text, and leaves out a half one."""
        for place, text in enumerate(turns):
            require_text(text, 1 + place // 2)
        self.turns = list(turns[: len(turns) // 2 * 2])

    def undo(self) -> None:
        """Takes back the last turn and its reply, if there are any."""
        del self.turns[-2:]
