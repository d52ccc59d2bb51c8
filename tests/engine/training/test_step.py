import functools
import itertools
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from engine.contract.config import RunConfig
from engine.data import batching
from engine.data.parquet_rows import RowSource
from engine.data.token_store import Row, TokenStore, open_store
from engine.data.tokenizer import load_tokenizer
from engine.models import freezing, loading
from engine.models.network import labels_of
from engine.models.on_device import find_head, network_of
from engine.models.seq2seq.padded import PaddedNetwork, decoder_inputs, pad_labels
from engine.process.world import World, seed_step
from engine.training.step import StepResult, StepRunner
from tests.engine.models import adapters

if TYPE_CHECKING:
    from tests.engine.conftest import TwoRanks

ROWS = 16
CASES = ["t5", "t5_frozen", "bart", "t5_lora", "bart_lora"]
# From all rows in one micro-batch down to each row alone, with the fewest and the most micro-batches of each budget.
MICRO_BATCHES = {100_000: (1, 1), 300: (2, 6), 128: (4, 12), 1: (ROWS, ROWS)}

Gradients = dict[str, Tensor]


def loaded(config: RunConfig) -> Any:
    net = loading.load_model(config, load_tokenizer(config.tokenizer))
    adapters.learning(net, config)
    freezing.set_training_mode(net)
    return net


def runner_of(config: RunConfig, store: TokenStore, world: World, **changed: Any) -> StepRunner:
    net = loaded(config)
    arguments = {
        "network": network_of(net, find_head(net), config.loss_chunk_tokens, bf16=False),
        "micro_batch_tokens": config.micro_batch_tokens,
        "max_grad_norm": config.max_grad_norm,
        **changed,
    }
    parameters = list(freezing.trained_parameters(net).values())
    return StepRunner(store=store, world=world, parameters=parameters, **arguments)


def gradients_in(runner: StepRunner) -> Gradients:
    learning = freezing.trained_parameters(runner.network.model)
    return {name: parameter.grad for name, parameter in learning.items() if parameter.grad is not None}


def one_step(config: RunConfig, store: TokenStore, world: World, **changed: Any) -> tuple[StepResult, Gradients]:
    runner = runner_of(config, store, world, **changed)
    result = runner.run(np.arange(ROWS), stop_asked=False)
    return result, gradients_in(runner)


def row_losses(net: Any, store: TokenStore) -> list[Tensor]:
    """The summed cross-entropy of each row by itself, in float64: no padding, no mask, no batch."""
    losses = []
    for index in range(ROWS):
        prompt, label = (torch.tensor(part(index).tolist()) for part in (store.prompt, store.label))
        before = torch.cat([torch.tensor([net.config.decoder_start_token_id]), label[:-1]])
        logits = net(input_ids=prompt[None], decoder_input_ids=before[None]).logits[0]
        losses.append(functional.cross_entropy(logits, label, reduction="sum"))
    return losses


def gradients_of(net: Any, loss: Tensor) -> Gradients:
    learning = freezing.trained_parameters(net)
    return dict(zip(learning, torch.autograd.grad(loss, list(learning.values())), strict=True))


def relative_error(found: Gradients, expected: Gradients) -> float:
    assert found.keys() == expected.keys()
    difference = torch.stack([(found[name].double() - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([part.norm() for part in expected.values()]).norm())


def norm_of(gradients: Gradients) -> float:
    return float(torch.stack([part.norm() for part in gradients.values()]).norm())


@pytest.fixture(scope="module")
def rows(stores: dict[str, TokenStore]) -> TokenStore:
    return stores["train_file"]


@pytest.fixture(scope="module")
def plain(gradient_cases: dict[str, RunConfig], rows: TokenStore) -> Callable[[str], tuple[float, Gradients]]:
    """Loss and gradient by the formula: all cross-entropies added up, divided by the number of label tokens."""
    tokens = sum(len(rows.label(index)) for index in range(ROWS))

    @functools.cache
    def compute(case: str) -> tuple[float, Gradients]:
        net = loaded(gradient_cases[case]).double()
        loss = torch.stack(row_losses(net, rows)).sum() / tokens
        return loss.item(), gradients_of(net, loss)

    return compute


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("budget", MICRO_BATCHES)
def test_any_division_into_micro_batches_gives_the_same_gradient(
    gradient_cases: dict[str, RunConfig],
    rows: TokenStore,
    plain: Callable[[str], tuple[float, Gradients]],
    cpu_world: World,
    case: str,
    budget: int,
) -> None:
    loss, expected = plain(case)
    result, found = one_step(gradient_cases[case], rows, cpu_world, micro_batch_tokens=budget)
    assert relative_error(found, expected) <= 1e-5
    assert result.loss == pytest.approx(loss, rel=1e-6)
    assert result.grad_norm == pytest.approx(norm_of(expected), rel=1e-5)
    fewest, most = MICRO_BATCHES[budget]
    assert fewest <= result.micro_batches <= most


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("separated", [True, False])
@pytest.mark.parametrize("budget", MICRO_BATCHES)
def test_separating_the_head_does_not_change_the_gradient(
    gradient_cases: dict[str, RunConfig],
    rows: TokenStore,
    plain: Callable[[str], tuple[float, Gradients]],
    cpu_world: World,
    case: str,
    separated: bool,
    budget: int,
) -> None:
    loss, expected = plain(case)
    net = loaded(gradient_cases[case])
    network = PaddedNetwork(net, find_head(net) if separated else None, 16, autocast=False)
    result, found = one_step(gradient_cases[case], rows, cpu_world, network=network, micro_batch_tokens=budget)
    assert relative_error(found, expected) <= 1e-5
    assert result.loss == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_means_is_another_gradient(
    gradient_cases: dict[str, RunConfig],
    rows: TokenStore,
    plain: Callable[[str], tuple[float, Gradients]],
    case: str,
) -> None:
    """On these rows the usual mistake lies far outside the tolerance of the tests above."""
    net = loaded(gradient_cases[case]).double()
    means = [loss / len(rows.label(index)) for index, loss in enumerate(row_losses(net, rows))]
    assert relative_error(gradients_of(net, torch.stack(means).mean()), plain(case)[1]) > 0.1


@pytest.mark.parametrize("budget", [100_000, 512, 1])
def test_real_rows_give_the_gradient_of_the_formula(
    gradient_cases: dict[str, RunConfig],
    real_rows: Path,
    tokenizer: PreTrainedTokenizerBase,
    cpu_world: World,
    tmp_path: Path,
    budget: int,
) -> None:
    source = RowSource(real_rows, "train_file", "prompt", "response")
    store = open_store(source, tokenizer, 200, tmp_path, lambda _done, _total: None)
    net = loaded(gradient_cases["t5_frozen"]).double()
    tokens = sum(len(store.label(index)) for index in range(ROWS))
    expected = gradients_of(net, torch.stack(row_losses(net, store)).sum() / tokens)
    _, found = one_step(gradient_cases["t5_frozen"], store, cpu_world, micro_batch_tokens=budget)
    assert relative_error(found, expected) <= 1e-5


def test_gradients_are_scaled_down_to_max_grad_norm(
    gradient_cases: dict[str, RunConfig],
    rows: TokenStore,
    plain: Callable[[str], tuple[float, Gradients]],
    cpu_world: World,
) -> None:
    whole = norm_of(plain("t5")[1])
    result, found = one_step(gradient_cases["t5"], rows, cpu_world, max_grad_norm=whole / 4)
    assert result.grad_norm == pytest.approx(whole, rel=1e-5)
    assert norm_of(found) == pytest.approx(whole / 4, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_step_counts_its_tokens(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World, case: str
) -> None:
    prompts, labels = ([len(part(index)) for index in range(ROWS)] for part in (rows.prompt, rows.label))
    alone, _ = one_step(gradient_cases[case], rows, cpu_world, micro_batch_tokens=1)
    together, _ = one_step(gradient_cases[case], rows, cpu_world, micro_batch_tokens=100_000)
    for result in (alone, together):
        assert (result.label_tokens, result.tokens) == (sum(labels), sum(prompts) + sum(labels))
    assert alone.padded_tokens == sum(prompts) + sum(labels)
    padded = ROWS * (max(prompts) + max(labels)) if "bart" in case else alone.padded_tokens  # a T5 is packed
    assert together.padded_tokens == padded


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_nan_weight_is_noticed_before_the_update(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World, bad: float
) -> None:
    net = loaded(gradient_cases["t5"])
    net.decoder.block[0].layer[0].SelfAttention.q.weight.data[0, 0] = bad
    network = network_of(net, find_head(net), 16, bf16=False)
    runner = StepRunner(network, rows, cpu_world, list(net.parameters()), 128, 1.0)
    assert not runner.run(np.arange(ROWS), stop_asked=False).finite


def test_a_finite_step_may_be_applied(gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World) -> None:
    assert one_step(gradient_cases["t5"], rows, cpu_world)[0].finite


# The loss of a step ahead of it.


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("budget", MICRO_BATCHES)
def test_the_loss_computed_ahead_equals_the_steps_bit_for_bit(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World, case: str, budget: int
) -> None:
    """With dropout, from the same seed."""
    config = replace(gradient_cases[case], dropout_rate=0.3)
    runner = runner_of(config, rows, cpu_world, micro_batch_tokens=budget)
    seed_step(5, 7, 0)
    ahead = runner.loss_of(np.arange(ROWS))
    seed_step(5, 7, 0)
    assert runner.run(np.arange(ROWS), stop_asked=False).loss == ahead
    seed_step(5, 8, 0)
    assert runner.loss_of(np.arange(ROWS)) != ahead  # dropout was on


@pytest.mark.parametrize("case", CASES)
def test_computing_the_loss_ahead_does_not_change_the_step(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World, case: str
) -> None:
    config = replace(gradient_cases[case], dropout_rate=0.3)
    found = []
    for ahead in (True, False):
        runner = runner_of(config, rows, cpu_world)
        if ahead:
            runner.loss_of(np.arange(ROWS))
            assert gradients_in(runner) == {}
        seed_step(5, 7, 0)
        found.append((runner.run(np.arange(ROWS), stop_asked=False), gradients_in(runner)))
    (first, ours), (second, theirs) = found
    assert (first.loss, first.grad_norm) == (second.loss, second.grad_norm)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_loss_computed_ahead_holds_one_micro_batch(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World
) -> None:
    """Each graph is dropped before the next is made: the budget bounds the memory of a save too."""
    runner = runner_of(gradient_cases["t5"], rows, cpu_world, micro_batch_tokens=1)
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most, real = 0, StepRunner._loss

    def counted(self: StepRunner, *arguments: Any) -> Tensor:
        nonlocal most
        loss = real(self, *arguments)
        alive.add(loss)
        most = max(most, len(alive))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepRunner, "_loss", counted)
        runner.loss_of(np.arange(ROWS))
    assert most == 1


# Which rows a step that is not finite has to thank for it.


def micro_batches(store: TokenStore, budget: int) -> list[set[int]]:
    """The rows of each micro-batch of the first step."""
    indices = list(range(ROWS))
    lengths = store.lengths(indices)
    return [set(batch) for batch in batching.pack(indices, lengths, budget)]


@pytest.mark.parametrize("budget", MICRO_BATCHES)
def test_the_rows_of_a_nan_loss_are_named(
    gradient_cases: dict[str, RunConfig],
    rows: TokenStore,
    cpu_world: World,
    budget: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = runner_of(gradient_cases["t5"], rows, cpu_world, micro_batch_tokens=budget)
    poisoned = 15
    others = {int(token) for row in range(ROWS) if row != poisoned for token in rows.prompt(row)}
    token = min({int(token) for token in rows.prompt(poisoned)} - others)
    real = runner.network.summed_loss

    def poison(chosen: list[Row], samples: list[int]) -> Tensor:
        met = any(bool((row.prompt == token).any()) for row in chosen)
        return real(chosen, samples) * (float("nan") if met else 1.0)

    monkeypatch.setattr(runner.network, "summed_loss", poison)
    assert not runner.run(np.arange(ROWS), stop_asked=False).finite
    (expected,) = [batch for batch in micro_batches(rows, budget) if poisoned in batch]
    assert set(runner.not_finite(np.arange(ROWS))) == expected


@pytest.mark.parametrize("nth", [0, 2])
def test_the_rows_of_a_nan_gradient_are_named(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World, nth: int
) -> None:
    runner = runner_of(gradient_cases["t5"], rows, cpu_world, micro_batch_tokens=128)
    calls = itertools.count()
    runner.parameters[0].register_hook(lambda gradient: gradient * (float("inf") if next(calls) == nth else 1.0))
    assert set(runner.not_finite(np.arange(ROWS))) == micro_batches(rows, 128)[nth]


def test_no_rows_are_named_where_all_is_finite(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World
) -> None:
    assert runner_of(gradient_cases["t5"], rows, cpu_world).not_finite(np.arange(ROWS)) == []


def test_named_rows_are_those_of_the_store(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, cpu_world: World
) -> None:
    runner = runner_of(gradient_cases["t5"], rows, cpu_world, micro_batch_tokens=1)
    calls = itertools.count()
    runner.parameters[0].register_hook(lambda gradient: gradient * (float("nan") if next(calls) == 0 else 1.0))
    samples = np.array([30, 11, 22])
    longest = max(samples, key=lambda row: (len(rows.prompt(row)) + len(rows.label(row)), len(rows.label(row))))
    assert runner.not_finite(samples) == [int(longest)]


# A rank whose parent has died.


def test_an_orphans_step_is_abandoned_without_gradients(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    runner = runner_of(gradient_cases["t5"], rows, world, micro_batch_tokens=1)
    assert not runner.run(np.arange(ROWS), stop_asked=False).abandoned
    before = world.rank_status.progress

    def orphaned_at_the_third(self: StepRunner, *arguments: Any, real: Any = StepRunner._loss) -> Tensor:
        world.rank_status.orphaned = world.rank_status.progress == before + 2
        return cast(Tensor, real(self, *arguments))

    monkeypatch.setattr(StepRunner, "_loss", orphaned_at_the_third)
    result = runner.run(np.arange(ROWS), stop_asked=False)
    assert result.abandoned
    assert not result.finite
    assert world.rank_status.progress == before + 3  # it did not go through the other thirteen


def test_every_micro_batch_counts_as_progress(gradient_cases: dict[str, RunConfig], rows: TokenStore) -> None:
    world = World()
    runner = runner_of(gradient_cases["t5"], rows, world, micro_batch_tokens=1)
    for work in (partial(runner.run, stop_asked=False), runner.loss_of, runner.not_finite):
        before = world.rank_status.progress
        work(np.arange(ROWS))
        assert world.rank_status.progress >= before + ROWS


@pytest.mark.parametrize(("case", "start"), [("t5", 0), ("bart", 1)])
def test_decoder_inputs_are_the_labels_one_token_late(
    gradient_cases: dict[str, RunConfig], rows: TokenStore, case: str, start: int
) -> None:
    labels = pad_labels(labels_of(rows.rows_at([0, 5])))
    shifted = decoder_inputs(loaded(gradient_cases[case]), labels)
    label = rows.label(0).tolist()
    assert shifted[:, 0].tolist() == [start, start]
    assert shifted[0, 1 : len(label)].tolist() == label[:-1]
    assert shifted.min() == 0


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_the_gradient_of_the_formula(
    two_ranks: "TwoRanks", plain: Callable[[str], tuple[float, Gradients]], case: str
) -> None:
    loss, expected = plain(case)
    first, second = (load_file(two_ranks.folder / f"{case}-{rank}.safetensors") for rank in (0, 1))
    assert [found["size"] for found in two_ranks.found] == [2, 2]
    assert all(torch.equal(first[name], second[name]) for name in first)
    numbers = first.pop("numbers").tolist()
    assert numbers[0] == pytest.approx(loss, rel=1e-6)
    assert numbers[4] == numbers[0]  # known ahead
    assert relative_error(first, expected) <= 1e-5


def test_a_stop_request_to_one_rank_reaches_all(two_ranks: "TwoRanks") -> None:
    for rank in (0, 1):
        assert load_file(two_ranks.folder / f"t5-{rank}.safetensors")["numbers"][3] == 1
