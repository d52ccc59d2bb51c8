import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm

from engine.cpu import native
from engine.cpu.dropout import Draw, Kept, RandomBits, Rate
from engine.models.on_device import find_head
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5, packed_network
from tests.engine.models.small import (
    LENGTHS,
    exact,
    frozen,
    gradients_of,
    packed,
    plain_losses,
    random_rows,
    relative_error,
    relative_errors,
    small_t5,
    whole,
)
from tests.required import required

# Apart from the smallest T5: every kind of feed-forward, both families, tied with scale and untied without, any depths.
CASES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"untied": True, "tie_word_embeddings": False},
    "tied_unscaled": {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "gated_silu": {"feed_forward_proj": "gated-silu"},
    "gated_relu": {"feed_forward_proj": "gated-relu"},
    "mt5": {"family": "mt5", "untied": True, "feed_forward_proj": "gated-gelu"},
    "mt5_tied": {"family": "mt5"},
    "deep_encoder": {"num_layers": 3, "num_decoder_layers": 1},
    "deep_decoder": {"num_layers": 1, "num_decoder_layers": 3},
    "start": {"decoder_start_token_id": 7},
}
FREEZES = ["encoder,embeddings", "", "encoder", "decoder", "embeddings", "encoder,decoder", "decoder,embeddings"]
HALF = torch.bfloat16


def assert_as_exact(net: Any, lengths: tuple[tuple[int, int], ...] = LENGTHS) -> None:
    """Loss, losses of the rows and every gradient that of transformers in float64, row by row."""
    rows = random_rows(lengths)
    losses, expected = exact(net, rows)
    network = packed(net)
    loss = network.summed_loss(rows)
    assert loss.item() == pytest.approx(sum(losses), rel=1e-6)
    assert network.row_losses(rows) == pytest.approx(losses, rel=1e-6)
    errors = relative_errors(gradients_of(net, loss), expected)
    assert {name: error for name, error in errors.items() if not error <= 1e-5} == {}


@pytest.mark.parametrize("case", CASES)
def test_every_gradient_equals_transformers_row_by_row(case: str) -> None:
    assert_as_exact(small_t5(**CASES[case]))


@pytest.mark.parametrize("parts", FREEZES)
@pytest.mark.parametrize("case", ["tied", "mt5"])
def test_every_gradient_is_right_whatever_is_frozen(case: str, parts: str) -> None:
    assert_as_exact(frozen(small_t5(**CASES[case]), parts))


@pytest.mark.parametrize("parts", FREEZES)
def test_what_is_frozen_gets_no_gradient(parts: str) -> None:
    net = frozen(small_t5(untied=True), parts)
    packed(net).summed_loss(random_rows()).backward()
    assert [name for name, p in net.named_parameters() if (p.grad is not None) is not p.requires_grad] == []


@pytest.mark.parametrize("lengths", [((3, 2),), ((1, 9),), ((20, 1),), ((1, 2), (2, 1)), ((2, 2),) * 6])
def test_rows_of_any_number_and_length_are_right(lengths: tuple[tuple[int, int], ...]) -> None:
    """By the whole gradient: with one token to attend to, that of its scores is nothing but rounding."""
    net, rows = small_t5(), random_rows(lengths)
    losses, expected = exact(net, rows)
    network = packed(net)
    loss = network.summed_loss(rows)
    assert network.row_losses(rows) == pytest.approx(losses, rel=1e-6)
    assert relative_error(whole(gradients_of(net, loss)), whole(expected)) <= 1e-5


def test_a_row_of_one_token_on_both_sides_is_right() -> None:
    net, rows = small_t5(), random_rows(((1, 1),))
    losses, expected = exact(net, rows)
    loss = packed(net).summed_loss(rows)
    assert loss.item() == pytest.approx(losses[0], rel=1e-6)
    assert relative_error(whole(gradients_of(net, loss)), whole(expected)) <= 1e-5


def test_a_row_has_the_loss_it_has_alone() -> None:
    net, rows = small_t5(), random_rows()
    network = packed(net)
    alone = [network.row_losses([row])[0] for row in rows]
    assert network.row_losses(rows) == pytest.approx(alone, rel=1e-6)


def precise_norm(self: Any, x: Tensor) -> Tensor:
    """Transformers' norm, which takes the variance in fp32, in the kind of its input."""
    inverse = (x.square().mean(dim=-1, keepdim=True) + self.variance_epsilon).rsqrt()
    normed: Tensor = self.weight * x * inverse
    return normed


def test_float64_results_agree_to_float64_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the head, whose gradient is added up in fp32: what else differs in fp32 is rounding."""
    monkeypatch.setattr(MT5LayerNorm, "forward", precise_norm)
    net, rows = small_t5(**CASES["mt5"]).double(), random_rows()
    losses, expected = exact(net, rows)
    loss = packed(net, torch.float64).summed_loss(rows)
    assert loss.item() == pytest.approx(sum(losses), rel=1e-12)
    errors = relative_errors(gradients_of(net, loss), expected)
    assert errors.pop("lm_head.weight") <= 1e-6
    assert {name: error for name, error in errors.items() if not error <= 1e-12} == {}


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_the_chunk_of_logits_does_not_matter(chunk: int) -> None:
    net, rows = small_t5(), random_rows()
    losses, expected = exact(net, rows)
    network = packed(net, chunk=chunk)
    loss = network.summed_loss(rows)
    assert network.row_losses(rows) == pytest.approx(losses, rel=1e-6)
    assert relative_error(whole(gradients_of(net, loss)), whole(expected)) <= 1e-5


def test_an_mt5_never_scales_its_output() -> None:
    """One converted from a T5 may say so, and transformers does not look at it."""
    assert_as_exact(small_t5("mt5", scale_decoder_outputs=True))


def test_no_padding_is_counted() -> None:
    assert packed(small_t5()).padded(list(LENGTHS)) == sum(prompt + label for prompt, label in LENGTHS)


@pytest.mark.parametrize(
    ("family", "function", "able"),
    [
        ("t5", "relu", True),
        ("mt5", "relu", True),
        ("t5", "gated-gelu", True),
        ("t5", "gated-gelu_new", True),
        ("mt5", "gated-silu", True),
        ("t5", "gated-relu", True),
        ("t5", "gelu", False),
        ("t5", "silu", False),
        ("t5", "gated-tanh", False),
        ("mt5", "gated-quick_gelu", False),
    ],
)
def test_only_known_activations_are_supported(family: str, function: str, able: bool) -> None:
    net = small_t5(family, feed_forward_proj=function)
    assert (packed_network(net, find_head(net), 7, bf16=False) is not None) is able


def test_a_head_with_a_bias_is_not_supported() -> None:
    net = small_t5()
    net.lm_head = nn.Linear(16, 40, bias=True)
    assert packed_network(net, find_head(net), 7, bf16=False) is None


# In bf16.


def in_bf16(net: Any, way: str) -> Any:
    return packed(net, HALF) if way == "packed" else PaddedNetwork(net, find_head(net), 7, autocast=True)


def errors_in_bf16(case: str, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """For both ways of computing, how far losses and gradients are from those of float64."""
    net, rows = small_t5(**CASES[case], seed=seed), random_rows(seed=seed)
    losses, expected = exact(net, rows)
    found = {}
    for way in ("packed", "autocast"):
        network = in_bf16(net, way)
        gradients = whole(gradients_of(net, network.summed_loss(rows)))
        off = torch.tensor(network.row_losses(rows)).double() - torch.tensor(losses).double()
        found[way] = (off / torch.tensor(losses), (gradients - whole(expected)) / whole(expected).norm())
    return found


@pytest.mark.parametrize("case", ["tied", "untied", "mt5"])
def test_bf16_is_as_close_to_float64_as_autocast_is(case: str) -> None:
    """Root mean square over many models: the ratio for one is a matter of luck, for 30 it was 0.96 to 1.25."""
    drawn = [errors_in_bf16(case, seed) for seed in range(16)]
    for kind in (0, 1):
        ours, theirs = (
            float(torch.cat([errors[way][kind] for errors in drawn]).norm()) for way in ("packed", "autocast")
        )
        assert 0 < ours <= 1.5 * theirs


@pytest.mark.parametrize("kind", [torch.float32, HALF])
def test_torch_and_compiled_code_give_the_same_step(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout included, over two micro-batches."""
    found = []
    required(native.library(), "the compiled code")
    for by_torch in (False, True):
        if by_torch:
            monkeypatch.setattr(native, "library", lambda: None)
        net = small_t5(dropout_rate=0.2)
        network = packed(net, kind)
        losses = [network.summed_loss(random_rows(seed=seed)) for seed in (0, 1)]
        for loss in losses:
            loss.backward()
        gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
        found.append(
            (
                sum(loss.item() for loss in losses),
                whole({name: part for name, part in gradients.items() if part is not None}),
            )
        )
        monkeypatch.undo()
    (total, gradient), (other, another) = found
    assert other == pytest.approx(total, rel=1e-6 if kind == torch.float32 else 2e-3)
    assert relative_error(another, gradient) < (1e-5 if kind == torch.float32 else 2e-2)


def test_bf16_gradients_have_the_dtype_of_the_parameters() -> None:
    net = small_t5()
    found = gradients_of(net, packed(net, HALF).summed_loss(random_rows()))
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


# Dropout.


class Recorded(RandomBits):
    """Remembers what it let stay, and at what rate."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[Kept, float]] = []

    def draw(self, rate: Rate, *shapes: tuple[int, ...]) -> Draw | None:
        """As ever; of one tensor, or the test would have to tell which belongs to which."""
        found = super().draw(rate, *shapes)
        if found is not None:
            (shape,) = shapes
            self.drawn.append((found.kept(*shape), rate.scale))
        return found


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], tuple[PackedT5, Recorded]]:
    """Makes a network whose dropout is remembered."""

    def make(net: Any) -> tuple[PackedT5, Recorded]:
        sources: list[Recorded] = []

        def source() -> Recorded:
            sources.append(Recorded())
            return sources[-1]

        monkeypatch.setattr("engine.models.t5.packed.RandomBits", source)
        network = packed(net)
        (only,) = sources
        return network, only

    return make


def replay(monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[Kept, float]]) -> Iterator[tuple[Kept, float]]:
    """Makes torch's dropout let stay what was remembered, in that order."""
    left = iter(drawn)

    def dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        assert not inplace
        if not training or not p:
            return values
        kept, scale = next(left)
        assert scale == pytest.approx(1 / (1 - p), rel=1e-4)
        return values * torch.from_numpy(kept).reshape(values.shape) * scale

    monkeypatch.setattr(functional, "dropout", dropout)
    return left


@pytest.mark.parametrize("parts", FREEZES)
@pytest.mark.parametrize("case", ["tied", "mt5"])
def test_dropout_is_where_transformers_has_it(
    case: str, parts: str, recorded: Callable[[Any], tuple[PackedT5, Recorded]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers, in float64, is made to drop the very same elements: none is left over, none is missing."""
    net = frozen(small_t5(**CASES[case], dropout_rate=0.25, attn_implementation="eager"), parts)
    network, source = recorded(net)
    rows = random_rows(((9, 6),))
    loss = network.summed_loss(rows)
    found = gradients_of(net, loss)
    left = replay(monkeypatch, source.drawn)
    losses, expected = exact(net, rows)
    assert list(left) == []
    assert loss.item() == pytest.approx(losses[0], rel=1e-6)
    errors = relative_errors(found, expected)
    assert {name: error for name, error in errors.items() if not error <= 1e-5} == {}


def places(net: Any) -> dict[str, Callable[[float], None]]:
    """Every place where transformers keeps a rate of dropout, by name, and how to set it."""
    found: dict[str, Callable[[float], None]] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Dropout):
            found[name] = lambda rate, module=module: setattr(module, "p", rate)  # type: ignore[misc]
        elif isinstance(getattr(module, "dropout", None), float):
            found[name] = lambda rate, module=module: setattr(module, "dropout", rate)  # type: ignore[misc]
    return found


PLACES = sorted(places(small_t5()))


def varies(network: Any) -> bool:
    """Whether the loss depends on the seed."""
    losses = set()
    for seed in range(3):
        torch.manual_seed(seed)
        network.begin_step()
        losses.add(network.summed_loss(random_rows()).item())
    return len(losses) > 1


@pytest.mark.parametrize("place", PLACES)
def test_every_dropout_rate_is_applied(place: str) -> None:
    net = small_t5()
    network = packed(net)
    assert not varies(network)
    places(net)[place](0.5)
    assert varies(network)


def test_every_dropout_of_transformers_was_tried() -> None:
    assert len(PLACES) == 2 * (1 + 2 * 4) + 2 * 2  # of each stack and block; of a decoder's block two more


@pytest.mark.parametrize("place", [place for place in PLACES if ".block." in place])
def test_a_frozen_part_has_no_dropout(place: str) -> None:
    stack = place.partition(".")[0]
    net = frozen(small_t5(), f"{stack},embeddings")
    places(net)[place](0.5)
    assert not varies(packed(net))


def test_in_eval_mode_nothing_is_dropped() -> None:
    net = small_t5(dropout_rate=0.5).eval()
    assert not varies(packed(net))
    rows = random_rows()
    assert packed(net).row_losses(rows) == pytest.approx(exact(net, rows)[0], rel=1e-6)


def test_the_same_seed_gives_the_same_loss_and_gradient_to_the_last_bit() -> None:
    net, rows, found = small_t5(dropout_rate=0.3), random_rows(), []
    for _ in range(2):
        torch.manual_seed(4)
        network = packed(net)
        loss = network.summed_loss(rows)
        found.append((loss.item(), whole(gradients_of(net, loss))))
    (first, ours), (second, theirs) = found
    assert first == second
    assert torch.equal(ours, theirs)


def test_micro_batches_of_a_step_have_different_dropout() -> None:
    network, rows = packed(small_t5(dropout_rate=0.3)), random_rows()
    assert network.summed_loss(rows).item() != network.summed_loss(rows).item()


def test_the_mean_loss_under_dropout_is_transformers() -> None:
    """Means over many seeds, within five standard errors of their difference."""
    net, rows, means, errors = small_t5(dropout_rate=0.2), random_rows(((6, 4),)), [], []
    network = packed(net)

    def ours() -> float:
        return network.row_losses(rows)[0]

    def theirs() -> float:
        with torch.no_grad():
            return float(plain_losses(net, rows)[0])

    for draw in (ours, theirs):
        drawn = torch.tensor([draw() for _ in range(100)], dtype=torch.float64)
        means.append(float(drawn.mean()))
        errors.append(float(drawn.var() / len(drawn)))
    assert abs(means[0] - means[1]) <= 5 * sum(errors) ** 0.5


def test_a_step_leaves_the_models_mode_as_it_was() -> None:
    net = small_t5(dropout_rate=0.3)
    before = copy.deepcopy(net.state_dict())
    network = packed(net, HALF)
    network.summed_loss(random_rows()).backward()
    network.row_losses(random_rows())
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
