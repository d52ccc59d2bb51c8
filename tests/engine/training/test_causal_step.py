"""The loss and the gradient of a step of a causal model are those of its rows one by one, however it is cut."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.contract.config import RunConfig
from engine.data.batching import Lengths
from engine.data.parquet_rows import RowSource
from engine.data.token_store import Row, reopened
from engine.models import loading
from engine.models.freezing import set_training_mode, trained_parameters
from engine.process.world import World
from engine.training.step import StepRunner
from tests.engine.models import adapters
from tests.engine.models.causal.exact import MODELS, SHAPES, apart, drawn, exact, network, random_rows

if TYPE_CHECKING:
    from tests.engine.conftest import TwoRanks


class Held:
    """Rows that are held in memory."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._ends = np.cumsum([len(row.prompt) for row in rows])

    def __len__(self) -> int:
        return len(self._rows)

    def rows_at(self, indices: Sequence[int]) -> list[Row]:
        """Some of them."""
        return [self._rows[index] for index in indices]

    def lengths(self, indices: Sequence[int]) -> Lengths:
        """Their tokens that are not learned, and those that are."""
        learned = np.array([sum(b - a for a, b in self._rows[index].spans) for index in indices])
        return Lengths(np.array([len(self._rows[index].ids) for index in indices]) - learned, learned)

    def prompt(self, row: int) -> Any:
        """Its prompt, as encodings ask for it."""
        return self._rows[row].prompt

    def start(self, _part: str, row: int) -> int:
        """Where a prompt begins among all of them."""
        return int(self._ends[row]) - len(self._rows[row].prompt)

    def tokens(self, _part: str) -> int:
        """Those of all prompts."""
        return int(self._ends[-1])


@pytest.mark.parametrize("adapted", [False, True], ids=["all", "lora"])
@pytest.mark.parametrize("model_type", MODELS)
def test_any_cut_gives_the_loss_and_gradient_of_float64(cpu_world: World, model_type: str, adapted: bool) -> None:
    net, rows = drawn(model_type), random_rows(SHAPES * 2)
    if adapted:
        adapters.learning(net, RunConfig(freeze="", lora_rank=3, lora_alpha=6.0))
    tokens = sum(b - a for row in rows for a, b in row.spans)
    losses, gradients = exact(net, rows)
    expected = {name: gradient / tokens for name, gradient in gradients.items()}
    store: Any = Held(rows)
    set_training_mode(net)
    for budget, count in ((1000, 1), (40, 3), (1, len(rows))):
        parameters = list(trained_parameters(net).values())
        result = StepRunner(network(net), store, cpu_world, parameters, budget, 1e9).run(
            np.arange(len(rows)), stop_asked=False
        )
        found = {name: parameter.grad for name, parameter in trained_parameters(net).items()}
        assert result.loss == pytest.approx(sum(losses) / tokens, rel=1e-6)
        assert apart({name: part for name, part in found.items() if part is not None}, expected) <= 1e-5
        assert (result.micro_batches, result.padded_tokens) == (count, sum(len(row.ids) for row in rows))
        assert [loss for _, _, loss in sorted(result.rows)] == pytest.approx(losses, rel=1e-5)
        net.zero_grad()


@pytest.mark.parametrize("case", ["causal", "causal_lora"])
def test_two_ranks_give_the_gradient_of_float64(
    two_ranks: "TwoRanks", gradient_cases: dict[str, RunConfig], case: str
) -> None:
    config = gradient_cases[case]
    tokenizer = loading.load_tokenizer_of(config)
    net = loading.load_model(config, tokenizer)
    net.get_input_embeddings().padding_idx = None  # the token that pads learns, as any other
    adapters.learning(net, config)
    store = reopened(
        RowSource.of(config, "train_file", "chat"), tokenizer, config.max_seq_len, Path(config.token_store)
    )
    rows = store.rows_at(range(config.gradient_accumulation_steps))
    losses, gradients = exact(net, rows)
    tokens = sum(b - a for row in rows for a, b in row.spans)
    first, second = (load_file(two_ranks.folder / f"{case}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    numbers = first.pop("numbers").tolist()
    assert numbers[0] == pytest.approx(sum(losses) / tokens, rel=1e-6)
    assert numbers[4] == numbers[0]  # known ahead
    assert apart(first, {name: gradient / tokens for name, gradient in gradients.items()}) <= 1e-5
