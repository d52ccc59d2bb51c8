"""The compiled code, held against the same by torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.cpu import compiled, native, reference
from engine.cpu.dropout import RandomBits, Rate
from engine.cpu.kernels import Kernels
from engine.cpu.ragged import AttentionPattern, Rows
from engine.cpu.reference import Matrix
from tests.engine.models.checked import reseeded
from tests.engine.models.small import relative_error

pytestmark = pytest.mark.usefixtures("instructions")

BOTH: tuple[Kernels, ...] = (cast(Kernels, compiled), cast(Kernels, reference))

# Rows of one token, of whole vectors, of blocks of products and of what is left over; heads of odd widths.
QUERIES, KEYS = Rows((1, 17, 40, 96, 6, 33)), Rows((16, 1, 5, 70, 2, 47))
SHAPES = [(4, 64), (3, 20), (5, 8)]


def inputs(pattern: AttentionPattern, width: int) -> list[Tensor]:
    """Query, key, value, gradient, and the bias; bf16 holds their values too, but for the bias."""
    generator = torch.Generator().manual_seed(1)
    tokens = (pattern.queries.tokens, pattern.keys.tokens, pattern.keys.tokens, pattern.queries.tokens)
    found = [torch.randn(n, pattern.heads * width, generator=generator) / 2 for n in tokens]
    found = [part.bfloat16().float() for part in found]
    side = pattern.queries.longest
    bias = torch.randn(pattern.heads, side, side, generator=generator)
    if pattern.causal:
        later = torch.ones(side, side, dtype=torch.bool).triu_(1)
        bias = bias.masked_fill(later, torch.finfo(torch.float32).min)
    return [*found, bias]


def computed(
    kernels: Kernels, pattern: AttentionPattern, parts: list[Tensor], kind: torch.dtype, rate: float
) -> list[Tensor]:
    """What is seen, what is kept, and the gradients of query, key, value and bias."""
    query, key, value, gradient = (part.to(kind) for part in parts[:4])
    bias = parts[4].to(torch.promote_types(kind, torch.float32)) if pattern.queries is pattern.keys else None
    seen, kept = kernels.attend(query, key, value, bias, pattern, Rate.of(rate), reseeded(RandomBits()))
    d_bias = None if bias is None else torch.zeros_like(bias)
    found = kernels.attend_backward(gradient, query, key, value, kept, pattern, d_bias)
    flat = torch.cat([part.flatten() for part in kept])
    return [seen, flat, *found, *([] if d_bias is None else [d_bias])]


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("name", ["causal", "itself", "another"])
@pytest.mark.parametrize(("kind", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
def test_attention_equals_torchs(
    heads: int, width: int, rate: float, name: str, kind: torch.dtype, error: float
) -> None:
    pattern = AttentionPattern(QUERIES, KEYS if name == "another" else QUERIES, heads, causal=name == "causal")
    parts = inputs(pattern, width)
    found = computed(BOTH[0], pattern, parts, kind, rate)
    expected = computed(BOTH[1], pattern, parts, torch.float64, rate)
    assert all(relative_error(*pair) < error for pair in zip(found, expected, strict=True))
    # What dropout took away, it took away from both.
    seen = expected[1].abs() > 1e-30
    assert torch.equal(found[1][seen] < 0, expected[1][seen] < 0)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("causal", [True, False])
def test_the_number_of_threads_changes_no_bit(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WORK_FOR_A_THREAD", 1)
    pattern = AttentionPattern(QUERIES, QUERIES, 5, causal=causal)
    parts, found = inputs(pattern, 16), []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found.append(computed(BOTH[0], pattern, parts, torch.bfloat16, 0.1))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_a_row_is_the_same_alone_and_among_others() -> None:
    pattern = AttentionPattern(QUERIES, QUERIES, 4, causal=True)
    *whole, bias = inputs(pattern, 64)
    together = computed(BOTH[0], pattern, [*whole, bias], torch.bfloat16, 0.0)
    for place, length in zip(QUERIES.places(), QUERIES.lengths, strict=True):
        row = Rows((length,))
        own = [*(part[place] for part in whole), bias[:, :length, :length].contiguous()]
        alone = computed(BOTH[0], AttentionPattern(row, row, 4, causal=True), own, torch.bfloat16, 0.0)
        for index in (0, 2, 3, 4):
            assert torch.equal(together[index][place], alone[index])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_so_in_attention(kind: torch.dtype, value: float) -> None:
    pattern = AttentionPattern(QUERIES, QUERIES, 4)
    parts = inputs(pattern, 64)
    row = list(QUERIES.places())[2]
    parts[1][row.start] = value
    seen, _, *gradients = computed(BOTH[0], pattern, parts, kind, 0.0)
    assert bool(seen[row].isnan().any(dim=1).all())
    assert not bool(seen[: row.start].isnan().any())
    assert not bool(gradients[0][row].isfinite().any())


def test_a_huge_score_takes_all_the_weight() -> None:
    """Whole powers of e that fp32 does not hold are zeros, not numbers gone round."""
    pattern = AttentionPattern(Rows((2,)), Rows((20,)), 1)
    query = torch.full((2, 16), 50.0)
    key = torch.zeros(20, 16)
    key[3], value = 1.0, torch.randn(20, 16)
    seen, kept = compiled.attend(query, key, value, None, pattern, Rate.of(0.0), RandomBits())
    assert torch.equal(seen, value[3].expand(2, 16))
    assert torch.equal(kept[0].view(2, 20)[0], torch.eye(20)[3])


def test_nothing_is_written_beyond_a_tensor() -> None:
    """Rows, heads and widths that end within a vector, each tensor with something behind it."""
    rows, heads, width, room = Rows((3, 5)), 3, 7, 64
    pattern, weights = AttentionPattern(rows, rows, heads, causal=True), heads * (3 * 3 + 5 * 5)
    sizes = dict.fromkeys(
        ("query", "key", "value", "gradient", "out", "d_query", "d_key", "d_value"), 8 * heads * width
    )
    sizes |= {"weights": weights, "bias": heads * 25, "d_bias": heads * 25}
    whole = {name: torch.full((size + room,), 77.0) for name, size in sizes.items()}
    shapes = {"weights": (weights,), "bias": (heads, 5, 5), "d_bias": (heads, 5, 5)}
    given = {name: whole[name][:size].view(shapes.get(name, (8, -1))) for name, size in sizes.items()}
    for name in ("query", "key", "value", "gradient", "bias"):
        given[name].copy_(torch.randn_like(given[name]))
    compiled._run(
        "attend", {name: given[name] for name in ("query", "key", "value", "bias", "weights", "out")}, pattern, None
    )
    backward = [name for name in given if name not in ("bias", "out")]
    compiled._run("attend_backward", {name: given[name] for name in backward}, pattern, None)
    for name, size in sizes.items():
        assert bool((whole[name][size:] == 77.0).all()), name
    for name in ("out", "d_query", "d_key", "d_value", "weights"):
        assert not bool((given[name] == 77.0).any()), name


# One query of each row, as a reply is written.

COUNTS = np.array([1, 17, 40, 96, 6, 33])
ROOM = 100


def stepped(kernels: Kernels, heads: int, width: int, kind: torch.dtype, *, own: bool, biased: bool) -> list[Tensor]:
    """What is seen, and the keys and values afterwards."""
    generator = torch.Generator().manual_seed(5)
    shapes = (len(COUNTS), heads * width * (3 if own else 1)), *2 * [(len(COUNTS), ROOM, heads * width)]
    given, keys, values = (torch.randn(shape, generator=generator).bfloat16().to(kind) for shape in shapes)
    bias = torch.randn(heads, int(COUNTS.max()), generator=generator) if biased else None
    return [kernels.attend_step(given, keys, values, bias, COUNTS, heads), keys, values]


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_decoding_step_equals_torchs(heads: int, width: int, own: bool, biased: bool, kind: torch.dtype) -> None:
    found = stepped(BOTH[0], heads, width, kind, own=own, biased=biased)
    expected = stepped(BOTH[1], heads, width, torch.float64, own=own, biased=biased)
    assert relative_error(found[0], expected[0]) < (1e-6 if kind == torch.float32 else 4e-3)
    assert all(torch.equal(ours.double(), theirs) for ours, theirs in zip(found[1:], expected[1:], strict=True))


@pytest.mark.parametrize("counts", [[0, 4], [4, 5], [4]])
def test_a_decoding_step_that_would_read_out_of_bounds_is_refused(counts: list[int]) -> None:
    keys = torch.zeros(2, 4, 8)
    with pytest.raises(ValueError, match=r"keys of \(2, 4, 8\)|of 4 int64"):
        compiled.attend_step(torch.zeros(2, 8), keys, keys, None, np.array(counts), 2)


# Between the products. The numbers of tokens and elements are not multiples of anything.

TOKENS = 150


def between(kernels: Kernels, width: int, kind: torch.dtype, rate: float) -> list[Tensor]:
    """What each of the small functions gives, one after the other."""
    generator = torch.Generator().manual_seed(2)
    x, y, bypass = (torch.randn(TOKENS, width, generator=generator) for _ in range(3))
    scale = 1 + torch.randn(width, generator=generator) / 3
    gradient = y.flip(0).to(kind)
    source = reseeded(RandomBits())
    draw, other_draw = (source.draw(Rate.of(rate), y.shape) for _ in range(2))
    plain, scaled, inverse = kernels.normed(x, scale.to(kind), 1e-6)
    d_x, d_scale = kernels.normed_backward(gradient, plain, inverse, scale.to(kind), bypass, scale_learns=True)
    other, nothing = kernels.normed_backward(gradient, plain, inverse, scale.to(kind), bypass, scale_learns=False)
    assert d_scale is not None
    assert nothing is None
    assert torch.equal(other, d_x)
    after = kernels.residual(x, y.to(kind).clone(), draw, 1.7)
    back = kernels.kept(bypass, draw, 1.7, kind)
    hidden = kernels.relu_dropped(y.to(kind).clone(), other_draw)
    return [plain, scaled, inverse, d_x, d_scale, after, back, hidden]


@pytest.mark.parametrize("width", [256, 20, 7])
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_functions_between_products_equal_torchs(width: int, rate: float, kind: torch.dtype) -> None:
    found, expected = (between(each, width, kind, rate) for each in BOTH)
    assert [part.dtype for part in found] == [part.dtype for part in expected]
    errors = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
    assert max(errors) < (1e-6 if kind == torch.float32 else 4e-3)
    # What dropout keeps, and what only it touches, is the same to the bit.
    assert errors[6:] == [0.0, 0.0]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "compute",
    [
        lambda: stepped(BOTH[0], 3, 20, torch.bfloat16, own=True, biased=True),
        lambda: between(BOTH[0], 20, torch.bfloat16, 0.3),
    ],
    ids=["a step of a reply", "between products"],
)
def test_the_number_of_threads_changes_no_bit_between_products(
    compute: Callable[[], list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "WORK_FOR_A_THREAD", 1)
    found = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found.append(compute())
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_stay_so_between_products(kind: torch.dtype) -> None:
    x, y = torch.zeros(2, 20), torch.zeros(2, 20)
    x[0, 3] = y[1, 19] = float("nan")
    assert bool(compiled.normed(x, torch.ones(20).to(kind), 1e-6)[0][0].isnan().all())
    assert compiled.residual(x, y.to(kind), None, 1.0).isnan().nonzero().tolist() == [[0, 3], [1, 19]]
    assert compiled.kept(y, None, 1.0, kind).isnan().nonzero().tolist() == [[1, 19]]
    assert compiled.relu_dropped(y.to(kind), None).isnan().nonzero().tolist() == [[1, 19]]


# The loss.

VOCABULARY = 1003


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """By torch in float64, and its gradient."""
    precise = logits.double().requires_grad_()
    found = torch.nn.functional.cross_entropy(precise, labels, reduction="none")
    return found.detach(), torch.autograd.grad(found.sum(), precise)[0]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_equal_cross_entropy(kind: torch.dtype) -> None:
    torch.manual_seed(3)
    logits, labels = (torch.randn(70, VOCABULARY) * 3).to(kind), torch.randint(VOCABULARY, (70,))
    # The first, the last, labels beyond doubt, and one that is not to be expected.
    labels[:2] = torch.tensor([0, VOCABULARY - 1])
    logits[2, labels[2]], logits[3, labels[3]], logits[4, labels[4]] = 30.0, 12.0, -200.0
    expected, gradient = cross_entropy(logits, labels)
    before = logits.clone()
    torch.testing.assert_close(compiled.losses(logits, labels, gradient=False).double(), expected, rtol=3e-6, atol=0)
    assert torch.equal(logits, before)
    torch.testing.assert_close(compiled.losses(logits, labels, gradient=True).double(), expected, rtol=3e-6, atol=0)
    torch.testing.assert_close(logits.double(), gradient, rtol=1e-5 if kind == torch.float32 else 4e-3, atol=1e-30)


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_bit_of_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WORK_FOR_A_THREAD", 1)
    torch.manual_seed(3)
    logits, labels, found = torch.randn(7, VOCABULARY).bfloat16(), torch.randint(VOCABULARY, (7,)), []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        gradient = logits.clone()
        found.append((compiled.losses(gradient, labels, gradient=True), gradient))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [5, 6, VOCABULARY - 1])
def test_a_logit_that_is_not_finite_makes_the_loss_so(value: float, place: int) -> None:
    logits = torch.zeros(2, VOCABULARY)
    logits[1, place] = value
    found = compiled.losses(logits, torch.tensor([5, 5]), gradient=True)
    assert found.isfinite().tolist() == [True, False]
    assert bool(logits[0].isfinite().all())
    assert not bool(logits[1].isfinite().all())


@pytest.mark.parametrize("label", [-1, VOCABULARY])
def test_a_label_beyond_the_logits_is_refused(label: int) -> None:
    with pytest.raises(IndexError, match=str(VOCABULARY)):
        compiled.losses(torch.zeros(2, VOCABULARY), torch.tensor([0, label]), gradient=True)


@pytest.mark.parametrize("size", [1, 7, VOCABULARY])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_argmax_takes_the_first_of_equal_logits(size: int, kind: torch.dtype) -> None:
    torch.manual_seed(3)
    logits = torch.randn(40, size).to(kind)
    logits[0], logits[1], logits[2] = -float("inf"), 2.0, -3.0
    logits[2, -1] = float("inf")
    logits[3, size // 2 :] = 9.0
    assert compiled.largest(logits).tolist() == [row.index(max(row)) for row in logits.tolist()]
    assert 0 <= int(compiled.largest(torch.full((1, size), float("nan"), dtype=kind))) < size


# Gradients and updates.


def test_a_gradient_is_added_to_the_total() -> None:
    total, part = torch.randn(33, 21), torch.randn(33, 21).bfloat16()
    expected = total + part.float()
    compiled.add_(total, part)
    assert torch.equal(total, expected)


def matrices(shapes: Sequence[tuple[int, int]]) -> list[Matrix]:
    """Whose second moments stand for steps before."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for rows, columns in shapes:
        parameter, gradient = (torch.randn(rows, columns, generator=generator) for _ in range(2))
        row, column = (torch.rand(shape, generator=generator) for shape in ((rows, 1), (1, columns)))
        found.append(Matrix(parameter, gradient, row, column, 0.3, 1e-7, 1e-3, 0.01, 0.9, 1.0))
    return found


MATRICES = [(150, 37), (1, 5), (64, 1), (65, 128), (7, 256)]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads_used", [1, 3])
def test_adafactor_updates_each_of_many_matrices(threads_used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its formula in float64."""
    monkeypatch.setattr(native, "WORK_FOR_A_THREAD", 1)
    torch.set_num_threads(threads_used)
    given = matrices(MATRICES)
    assert compiled.adafactor(given) == [True] * len(given)
    for ours, before in zip(given, matrices(MATRICES), strict=True):
        g, p, row, column = (
            part.double() for part in (before.gradient, before.parameter, before.row_var, before.col_var)
        )
        row, column = (
            row.lerp(g.square().mean(1, keepdim=True), 0.3),
            column.lerp(g.square().mean(0, keepdim=True), 0.3),
        )
        update = g / (row / row.mean()).sqrt() / column.sqrt()
        update /= max(1.0, float(update.square().mean().sqrt()))
        wanted = p * 0.9 - update * 0.01 * max(1e-3, float(p.square().mean().sqrt()))
        found = (ours.parameter, ours.row_var, ours.col_var)
        assert max(relative_error(*pair) for pair in zip(found, (wanted, row, column), strict=True)) < 1e-6


def test_a_matrix_whose_second_moment_would_be_clamped_stays() -> None:
    given, before = matrices([(5, 3), (4, 2)]), matrices([(5, 3), (4, 2)])
    for each in (given, before):
        each[0].row_var.fill_(1e-30)
        each[0].gradient.fill_(1e-15)
    assert compiled.adafactor(given) == [False, True]
    assert all(
        torch.equal(getattr(given[0], name), getattr(before[0], name)) for name in ("parameter", "row_var", "col_var")
    )


def test_moments_of_the_wrong_shape_are_refused() -> None:
    (given,) = matrices([(5, 3)])
    with pytest.raises(ValueError, match=r"\[4, 1\]"):
        compiled.adafactor([replace(given, row_var=torch.zeros(4, 1))])


@pytest.mark.parametrize("size", [0, 1, 7, 100, 16_384, 40_001])
@pytest.mark.parametrize("of", ["random", "equal"])
def test_squares_are_added_up_in_double(size: int, of: str, threads: None) -> None:
    values = (
        torch.randn(size, generator=torch.Generator().manual_seed(1)) if of == "random" else torch.full((size,), 0.1)
    )
    assert threads is None
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(compiled.squares(values))
    assert found == [found[0]] * 3
    assert found[0] == pytest.approx(float(values.double().square().sum()), rel=1e-13)
