"""Loss and the scores of replies over the validation rows, each counted once on any number of ranks.

Batches are formed over all rows first and distributed to the ranks whole, so that a score does not depend on the
number of ranks; losses are summed in the order of the rows.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from engine.contract.config import RunConfig
from engine.contract.scores import Measured
from engine.data import batching
from engine.data.batching import Ids, Lengths
from engine.data.references import Reference, rows_replied, rows_scored
from engine.data.token_store import TokenStore
from engine.models.network import Network, prompts_of
from engine.process.world import World
from engine.training.metrics import corpus_bleu, perplexity, reply_scores

Progress = Callable[[str, int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class ScoredReply:
    """A generated reply and its reference, as in the file.

    The prompt is as the model sees it; of a conversation it is the last message, as in the file.
    """

    row: int
    prompt: str
    reference: str
    reply: str


@dataclass(frozen=True)
class Score:
    """The outcome of an evaluation; `loss` is the mean over label tokens, `measures` are all others.

    `bleu_of_labels` is the BLEU of replies equal to the labels as the model learns them: cut, and in the
    tokenizer's own spelling. A higher score can hardly be reached.
    """

    rows: int
    loss: float
    measures: dict[str, Measured]
    bleu_of_labels: float
    predictions: tuple[ScoredReply, ...]
    seconds: float


@dataclass(frozen=True)
class Evaluator:
    """Evaluates one model on the rows of one store; `references` are those rows' answers, verbatim."""

    network: Network
    tokenizer: PreTrainedTokenizerBase
    store: TokenStore
    references: Sequence[Reference]
    world: World
    config: RunConfig
    progress: Progress

    def run(self) -> Score:
        """Evaluates; returns the same score on every rank. The model is left in eval mode."""
        began = time.perf_counter()
        self.network.model.eval()
        self.network.begin_step()
        rows = self.rows
        loss = self._loss()
        replies = self._generate()
        predictions = tuple(self._prediction(index, ids) for index, ids in enumerate(replies))
        references = [prediction.reference for prediction in predictions]
        measures = {"perplexity": perplexity(loss), **reply_scores([one.reply for one in predictions], references)}
        labels = [self._text(self.store.label(index)) for index in range(len(replies))]
        of_labels = corpus_bleu(labels, references).value
        return Score(rows, loss, measures, of_labels, predictions, time.perf_counter() - began)

    @property
    def rows(self) -> int:
        """The number of rows whose loss is computed."""
        return rows_scored(self.config, len(self.store))

    @property
    def rows_replied(self) -> int:
        """The number of rows, counted from the first, for which a reply is generated."""
        return rows_replied(self.config, len(self.store))

    def lengths(self, rows: int) -> Lengths:
        """The lengths of the first `rows` rows."""
        return self.store.lengths(range(rows))

    def loss_batches(self) -> list[list[int]]:
        """The rows whose losses are computed together, the longest first."""
        budget = self.network.scoring_budget(self.config.micro_batch_tokens)
        return batching.pack(range(self.rows), self.lengths(self.rows), budget, self.network.measure)

    def reply_batches(self) -> list[list[int]]:
        """The batches of rows for replies, the longest prompts first.

        Each has the size that the settings give, or fewer rows if a rank would have none to generate.
        """
        prompts = self.lengths(self.rows_replied).prompt
        order = batching.longest_first(Lengths(prompts, prompts * 0))
        size = min(self.config.eval_batch_rows, max(1, -(-len(order) // self.world.size)))
        return [order[start : start + size] for start in range(0, len(order), size)]

    @cached_property
    def longest_reply(self) -> int:
        """The most tokens that a reply may have."""
        return self.config.max_new_tokens or int(self.lengths(self.rows_replied).label.max())

    def _loss(self) -> float:
        lengths, batches = self.lengths(self.rows), self.loss_batches()
        found: list[tuple[int, float]] = []
        for done, batch in self._mine("evaluating", batches):
            found += zip(batch, self.row_losses(batch), strict=True)
            self.progress("evaluating", done, len(batches))
        total: float = sum(loss for _, loss in self._gathered(found))
        return total / int(lengths.label.sum())

    def _mine(self, name: str, batches: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """The batches of this rank; if all ranks must compute at the same time, each has as many, some twice."""
        self.progress(name, 0, len(batches))
        size = self.world.size
        rounds = -(-len(batches) // size) * size if self.network.together else len(batches)
        for number in range(self.world.rank, rounds, size):
            yield min(number + 1, len(batches)), batches[number % len(batches)]

    def _gathered(self, found: list[tuple[int, T]]) -> list[tuple[int, T]]:
        """What all ranks found of their rows, each once, in the order of the rows."""
        return sorted(dict(self.world.gather(found)).items(), key=lambda row: row[0])

    def row_losses(self, indices: list[int]) -> list[float]:
        """The summed cross-entropy of each row of a batch."""
        return self.network.row_losses(self.store.rows_at(indices))

    def _generate(self) -> list[list[int]]:
        """Greedy replies to the first prompts, as token ids without padding."""
        batches = self.reply_batches()
        found: list[tuple[int, list[int]]] = []
        for done, batch in self._mine("generating", batches):
            found += zip(batch, self.replies(batch), strict=True)
            self.progress("generating", done, len(batches))
        return [ids for _, ids in self._gathered(found)]

    def replies(self, indices: list[int]) -> list[list[int]]:
        """Greedy replies to the prompts of a batch, as token ids."""
        return self.network.replies(prompts_of(self.store.rows_at(indices)), self.longest_reply)

    def _prediction(self, index: int, ids: list[int]) -> ScoredReply:
        wanted = self.references[index]
        prompt = wanted.asked or self._text(self.store.prompt(index))
        return ScoredReply(self.store.row_number(index), prompt, wanted.answer, self._text(ids))

    def _text(self, ids: Ids | list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
