import numpy as np
import pytest
import torch
from torch import Tensor

from engine.cpu.dropout import RandomBits, Rate
from engine.cpu.ragged import AttentionPattern, Rows
from engine.cpu.reference import attend, attend_backward, attend_step, normed, normed_backward
from tests.engine.models.checked import reseeded

HEADS, WIDTH = 2, 6
QUERIES, KEYS = Rows((1, 4, 2)), Rows((3, 1, 5))
PATTERNS = {"itself": AttentionPattern(QUERIES, QUERIES, HEADS), "another": AttentionPattern(QUERIES, KEYS, HEADS)}
NOTHING = Rate.of(0.0)


def parts(pattern: AttentionPattern, kind: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    tokens = (pattern.queries.tokens, pattern.keys.tokens, pattern.keys.tokens)
    query, key, value = (torch.randn(n, WIDTH, dtype=torch.float64).to(kind) for n in tokens)
    return query, key, value


def bias_of(pattern: AttentionPattern) -> Tensor:
    return torch.randn(HEADS, pattern.queries.longest, pattern.keys.longest, dtype=torch.float64)


def plain(
    parts: tuple[Tensor, ...], bias: Tensor | None, pattern: AttentionPattern, stays: list[Tensor] | None = None
) -> Tensor:
    """Each row and each head by itself, by the formula; `stays` is what dropout keeps of each row."""
    query, key, value = (part.unflatten(1, (HEADS, -1)) for part in parts)
    seen = []
    for row, (at, of) in enumerate(pattern.pairs()):
        scores = torch.einsum("qhw,khw->hqk", query[at], key[of])
        if bias is not None:
            scores = scores + bias[:, : scores.shape[1], : scores.shape[2]]
        weights = scores.softmax(dim=-1) * (1 if stays is None else stays[row])
        seen.append(torch.einsum("hqk,khw->qhw", weights, value[of]).flatten(1))
    return torch.cat(seen)


def dropped(rate: Rate, pattern: AttentionPattern) -> list[Tensor]:
    """What the source keeps of each row's weights, when it is asked for one row after the other."""
    source, found = reseeded(RandomBits()), []
    for queries, keys in zip(pattern.queries.lengths, pattern.keys.lengths, strict=True):
        stay = source.kept(rate, HEADS, queries, keys)
        assert stay is not None
        found.append(torch.from_numpy(stay).double())
    return found


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("biased", [True, False])
def test_each_row_attends_only_to_its_own_keys(name: str, biased: bool) -> None:
    pattern = PATTERNS[name]
    given, bias = parts(pattern), bias_of(pattern) if biased else None
    seen, weights = attend(*given, bias, pattern, NOTHING, RandomBits())
    torch.testing.assert_close(seen, plain(given, bias, pattern), rtol=1e-12, atol=1e-12)
    shapes = zip(pattern.queries.lengths, pattern.keys.lengths, strict=True)
    assert [part.shape for part in weights] == [(HEADS, queries, keys) for queries, keys in shapes]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_gradients_are_those_of_the_formula(name: str, rate: float) -> None:
    pattern, drop = PATTERNS[name], Rate.of(rate)
    bias = bias_of(pattern).requires_grad_()
    given = tuple(part.requires_grad_() for part in parts(pattern))
    expected = plain(given, bias, pattern, dropped(drop, pattern) if rate else None)
    with torch.no_grad():
        seen, kept = attend(*parts(pattern), bias, pattern, drop, reseeded(RandomBits()))
        torch.testing.assert_close(seen, expected, rtol=1e-12, atol=1e-12)
        gradient, d_bias = torch.randn_like(seen), torch.zeros_like(bias)
        query, key, value = given
        found = (*attend_backward(gradient, query, key, value, kept, pattern, d_bias), d_bias)
    for ours, theirs in zip(found, torch.autograd.grad(expected, [*given, bias], gradient), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_bias_accumulates() -> None:
    pattern = PATTERNS["itself"]
    given, bias = parts(pattern), bias_of(pattern)
    seen, kept = attend(*given, bias, pattern, NOTHING, RandomBits())
    once, twice = torch.zeros_like(bias), torch.zeros_like(bias)
    attend_backward(seen, *given, kept, pattern, once)
    for _ in range(2):
        attend_backward(seen, *given, kept, pattern, twice)
    torch.testing.assert_close(twice, 2 * once)


def test_positions_masked_by_the_bias_get_no_weight() -> None:
    pattern = PATTERNS["itself"]
    longest = pattern.queries.longest
    later = torch.ones(longest, longest, dtype=torch.bool).triu_(1)
    bias = torch.zeros(HEADS, longest, longest).double().masked_fill_(later, torch.finfo(torch.float64).min)
    query, key, value = parts(pattern)
    before, _ = attend(query, key, value, bias, pattern, NOTHING, RandomBits())
    at = next(place for place in pattern.queries.places() if place.stop - place.start == longest)
    key[at.stop - 1], value[at.stop - 1] = 9.0, 9.0
    after, _ = attend(query, key, value, bias, pattern, NOTHING, RandomBits())
    changed = (before != after).any(dim=1).nonzero().flatten().tolist()
    assert changed == [at.stop - 1]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_softmax_is_kept_in_the_dtype_of_the_inputs(rate: float) -> None:
    pattern = PATTERNS["itself"]
    given = parts(pattern, torch.bfloat16)
    _, kept = attend(*given, None, pattern, Rate.of(rate), reseeded(RandomBits()))
    _, whole = attend(*given, None, pattern, NOTHING, RandomBits())
    stays = dropped(Rate.of(rate), pattern) if rate else [torch.ones(part.shape) for part in whole]
    ours, plain_weights, stay = (torch.cat([part.flatten() for part in parts]) for parts in (kept, whole, stays))
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, torch.where(stay.bool(), plain_weights, -plain_weights))


@pytest.mark.usefixtures("way")
def test_scores_of_bf16_are_computed_in_fp32() -> None:
    """All that is rounded to bf16 is what comes out."""
    pattern = PATTERNS["another"]
    given = parts(pattern, torch.bfloat16)
    seen, _ = attend(*given, None, pattern, NOTHING, RandomBits())
    expected = plain(tuple(part.double() for part in given), None, pattern)
    assert seen.dtype == torch.bfloat16
    assert bool(((seen.double() - expected).abs() <= expected.abs() * 2**-8 + 1e-6).all())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_a_query_attends_to_the_keys_of_its_row(own: bool, biased: bool) -> None:
    """By the formula, row by row; what lies beyond a row's keys is of no account, and its own come last."""
    torch.manual_seed(0)
    counts = np.array([1, 5, 3])
    given, keys, values = torch.randn(3, WIDTH * (3 if own else 1)), torch.randn(3, 7, WIDTH), torch.randn(3, 7, WIDTH)
    bias = torch.randn(HEADS, 5) if biased else None
    seen = []
    for row, count in enumerate(counts):
        query, key, value = given[row, :WIDTH], keys[row, :count].clone(), values[row, :count].clone()
        if own:
            key[-1], value[-1] = given[row, WIDTH:].chunk(2)
        q, k, v = (part.view(-1, HEADS, WIDTH // HEADS) for part in (query, key, value))
        scores = torch.einsum("qhw,khw->hk", q, k) + (0 if bias is None else bias[:, :count])
        seen.append(torch.einsum("hk,khw->hw", scores.softmax(dim=-1), v).flatten())
    found = attend_step(given, keys, values, bias, counts, HEADS)
    torch.testing.assert_close(found, torch.stack(seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale_learns", [True, False])
def test_the_gradients_of_a_norm_match_its_formula(scale_learns: bool) -> None:
    torch.manual_seed(0)
    x, scale = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, WIDTH), (WIDTH,)))
    plain_n, scaled, inverse = normed(x.detach(), scale.detach(), 1e-3)
    expected = x * (x.square().mean(dim=1, keepdim=True) + 1e-3).rsqrt() * scale
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=1e-12)
    gradient, bypass = torch.randn_like(expected), torch.randn_like(x)
    d_x, d_scale = normed_backward(gradient, plain_n, inverse, scale.detach(), bypass, scale_learns=scale_learns)
    d_x -= bypass
    wanted_x, wanted_scale = torch.autograd.grad(expected, [x, scale], gradient)
    torch.testing.assert_close(d_x, wanted_x, rtol=1e-12, atol=1e-12)
    assert (d_scale is not None) is scale_learns
    if d_scale is not None:
        torch.testing.assert_close(d_scale, wanted_scale, rtol=1e-12, atol=1e-12)


def test_a_norm_of_zeros_is_zero_and_has_a_gradient() -> None:
    zeros, ones = torch.zeros(2, WIDTH), torch.ones(2, WIDTH)
    n, _, inverse = normed(zeros, ones[0], 1e-6)
    d_x, _ = normed_backward(ones, n, inverse, ones[0], zeros, scale_learns=False)
    assert torch.equal(n, torch.zeros(2, WIDTH))
    torch.testing.assert_close(d_x, torch.full((2, WIDTH), 1e3))
