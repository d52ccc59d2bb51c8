"""The compiled code, held against the same by torch in float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine.network import attention, kernels
from engine.network.dropout import Rate, Source
from engine.network.rows import Rows, Sight
from tests.engine.network.checked import reseeded
from tests.engine.network.small import relative_error

pytestmark = pytest.mark.skipif(kernels.kind() == "none", reason="no C compiler was found at the installation")

# Rows of one token, of whole vectors, of blocks of products and of what is left over; heads of odd widths.
QUERIES, KEYS = Rows((1, 17, 40, 96, 6, 33)), Rows((16, 1, 5, 70, 2, 47))
SHAPES = [(4, 64), (3, 20), (5, 8)]


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def inputs(sight: Sight, width: int) -> list[Tensor]:
    """Query, key, value, gradient, and the bias; bf16 holds their values too, but for the bias."""
    generator = torch.Generator().manual_seed(1)
    tokens = (sight.queries.tokens, sight.keys.tokens, sight.keys.tokens, sight.queries.tokens)
    found = [torch.randn(n, sight.heads * width, generator=generator) / 2 for n in tokens]
    found = [part.bfloat16().float() for part in found]
    side = sight.queries.longest
    bias = torch.randn(sight.heads, side, side, generator=generator)
    if sight.causal:
        later = torch.ones(side, side, dtype=torch.bool).triu_(1)
        bias = bias.masked_fill(later, torch.finfo(torch.float32).min)
    return [*found, bias]


def computed(sight: Sight, parts: list[Tensor], kind: torch.dtype, rate: float) -> list[Tensor]:
    """What is seen, what is kept, and the gradients of query, key, value and bias."""
    query, key, value, gradient = (part.to(kind) for part in parts[:4])
    bias = parts[4].to(torch.promote_types(kind, torch.float32)) if sight.queries is sight.keys else None
    seen, kept = attention.attend(query, key, value, bias, sight, Rate.of(rate), reseeded(Source()))
    d_bias = None if bias is None else torch.zeros_like(bias)
    found = attention.attend_backward(gradient, query, key, value, kept, sight, d_bias)
    flat = torch.cat([part.flatten() for part in kept])
    return [seen, flat, *found, *([] if d_bias is None else [d_bias])]


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("name", ["causal", "itself", "another"])
@pytest.mark.parametrize(("kind", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
def test_it_gives_what_torch_gives(
    heads: int, width: int, rate: float, name: str, kind: torch.dtype, error: float
) -> None:
    sight = Sight(QUERIES, KEYS if name == "another" else QUERIES, heads, causal=name == "causal")
    parts = inputs(sight, width)
    found, expected = (computed(sight, parts, each, rate) for each in (kind, torch.float64))
    assert all(relative_error(*pair) < error for pair in zip(found, expected, strict=True))
    # What dropout took away, it took away from both.
    seen = expected[1].abs() > 1e-30
    assert torch.equal(found[1][seen] < 0, expected[1][seen] < 0)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("causal", [True, False])
def test_the_number_of_threads_changes_no_bit(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "WORTH_A_THREAD", 1)
    sight = Sight(QUERIES, QUERIES, 5, causal=causal)
    parts, found = inputs(sight, 16), []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found.append(computed(sight, parts, torch.bfloat16, 0.1))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_a_row_is_the_same_beside_others_and_alone() -> None:
    sight = Sight(QUERIES, QUERIES, 4, causal=True)
    *whole, bias = inputs(sight, 64)
    together = computed(sight, [*whole, bias], torch.bfloat16, 0.0)
    for place, length in zip(QUERIES.places(), QUERIES.lengths, strict=True):
        row = Rows((length,))
        own = [*(part[place] for part in whole), bias[:, :length, :length].contiguous()]
        alone = computed(Sight(row, row, 4, causal=True), own, torch.bfloat16, 0.0)
        for index in (0, 2, 3, 4):
            assert torch.equal(together[index][place], alone[index])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_become_a_number(kind: torch.dtype, value: float) -> None:
    sight = Sight(QUERIES, QUERIES, 4)
    parts = inputs(sight, 64)
    row = list(QUERIES.places())[2]
    parts[1][row.start] = value
    seen, _, *gradients = computed(sight, parts, kind, 0.0)
    assert bool(seen[row].isnan().any(dim=1).all())
    assert not bool(seen[: row.start].isnan().any())
    assert not bool(gradients[0][row].isfinite().any())


def test_large_scores_leave_the_largest_alone() -> None:
    """Whole powers of e that fp32 does not hold are zeros, not numbers gone round."""
    sight = Sight(Rows((2,)), Rows((20,)), 1)
    query = torch.full((2, 16), 50.0)
    key = torch.zeros(20, 16)
    key[3], value = 1.0, torch.randn(20, 16)
    seen, kept = attention.attend(query, key, value, None, sight, Rate.of(0.0), Source())
    assert torch.equal(seen, value[3].expand(2, 16))
    assert torch.equal(kept[0].view(2, 20)[0], torch.eye(20)[3])


def test_bits_beyond_a_tensor_stay_as_they_are() -> None:
    """Rows that end within a vector are neither read nor written past their ends."""
    sight = Sight(Rows((3, 5)), Rows((3, 5)), 3, causal=True)
    parts = inputs(sight, 7)
    room = torch.full((4, 8 * 21 + 64), 77.0)
    views = [line[: 8 * 21].view(8, 21).copy_(part) for line, part in zip(room, parts[:4], strict=True)]
    computed(sight, [*views, parts[4]], torch.float32, 0.2)
    assert bool((room[:, 8 * 21 :] == 77.0).all())
