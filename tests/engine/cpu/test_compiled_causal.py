"""Causal attention, rotary positions and the gated product in C, held against torch's."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu import compiled, native, reference
from engine.cpu.kernels import Kernels
from engine.cpu.ragged import CausalPattern, Rows
from tests.engine.models.small import relative_error

pytestmark = pytest.mark.usefixtures("instructions")

C, TORCH = cast(Kernels, compiled), cast(Kernels, reference)
KINDS = [(torch.float32, 2e-6), (torch.bfloat16, 6e-3)]
# Rows of one token, of one block of queries, of several, and of what is left over.
ROWS = Rows((1, 17, 48, 130, 6, 97))


def pattern_of(heads: int, groups: int, width: int, window: int = 0, rows: Rows = ROWS) -> CausalPattern:
    return CausalPattern(rows, heads, groups, width**-0.5, window)


def side_by_side(pattern: CausalPattern, width: int, seed: int = 1) -> Tensor:
    """Queries, keys and values of each token in one tensor; bf16 holds them too."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(pattern.rows.tokens, (pattern.heads + 2 * pattern.groups) * width, generator=generator)
    return found.bfloat16().float()


def parts(values: Tensor, pattern: CausalPattern, width: int) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys = pattern.heads * width, pattern.groups * width
    return values[:, :queries], values[:, queries : queries + keys], values[:, queries + keys :]


def computed(kernels: Kernels, values: Tensor, pattern: CausalPattern, width: int) -> list[Tensor]:
    """What is seen, the sums, and the gradients of queries, keys and values side by side."""
    given = parts(values, pattern, width)
    seen, sums = kernels.causal(*given, pattern)
    gradient = side_by_side(pattern, width, seed=2).to(values.dtype)[:, : pattern.heads * width].contiguous()
    found = torch.empty_like(values)
    kernels.causal_backward(gradient, *given, seen, sums, pattern, parts(found, pattern, width))
    return [seen, sums, found]


@pytest.mark.parametrize(("kind", "error"), KINDS)
@pytest.mark.parametrize(
    ("heads", "groups", "width", "window"), [(9, 3, 64, 0), (4, 4, 20, 0), (2, 1, 80, 33), (4, 2, 16, 5), (3, 1, 8, 1)]
)
def test_causal_attention_equals_torchs(
    heads: int, groups: int, width: int, window: int, kind: torch.dtype, error: float
) -> None:
    pattern = pattern_of(heads, groups, width, window)
    values = side_by_side(pattern, width)
    found = computed(C, values.to(kind), pattern, width)
    expected = computed(TORCH, values.double(), pattern, width)
    assert all(relative_error(*pair) < error for pair in zip(found, expected, strict=True))


def test_torchs_own_is_scaled_attention_with_its_gradient() -> None:
    pattern = pattern_of(4, 2, 16, rows=Rows((9,)))
    values = side_by_side(pattern, 16).double().requires_grad_()
    query, key, value = (each.unflatten(1, (-1, 16)).transpose(0, 1)[None] for each in parts(values, pattern, 16))
    seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    seen = seen[0].transpose(0, 1).flatten(1)
    gradient = side_by_side(pattern, 16, seed=2).double()[:, :64]
    (expected,) = torch.autograd.grad(seen, values, gradient)
    found = computed(TORCH, values.detach(), pattern, 16)
    assert relative_error(found[0], seen.detach()) < 1e-12
    assert relative_error(found[2], expected) < 1e-12


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WORK_FOR_A_THREAD", 1)
    pattern, found = pattern_of(6, 3, 16), []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found.append(computed(C, side_by_side(pattern, 16).bfloat16(), pattern, 16))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_a_row_is_the_same_alone_and_among_others() -> None:
    pattern = pattern_of(4, 2, 16, window=20)
    values = side_by_side(pattern, 16).bfloat16()
    together = computed(C, values, pattern, 16)[0]
    for place, length in zip(ROWS.places(), ROWS.lengths, strict=True):
        alone = pattern_of(4, 2, 16, window=20, rows=Rows((length,)))
        assert torch.equal(computed(C, values[place].contiguous(), alone, 16)[0], together[place])


def test_a_later_token_changes_no_earlier_one() -> None:
    pattern = pattern_of(2, 1, 16, rows=Rows((60,)))
    values = side_by_side(pattern, 16)
    before = C.causal(*parts(values, pattern, 16), pattern)[0]
    values[40:] *= 100
    assert torch.equal(C.causal(*parts(values, pattern, 16), pattern)[0][:40], before[:40])


@pytest.mark.parametrize(("kind", "error"), KINDS)
@pytest.mark.parametrize(("heads", "groups", "width", "window"), [(9, 3, 64, 0), (4, 4, 20, 7), (2, 1, 80, 1)])
def test_one_query_of_each_row_sees_what_the_last_of_the_row_does(
    heads: int, groups: int, width: int, window: int, kind: torch.dtype, error: float
) -> None:
    pattern = pattern_of(heads, groups, width, window)
    values = side_by_side(pattern, width).to(kind)
    lasts = torch.from_numpy(ROWS.ends[1:] - 1)
    expected = TORCH.causal(*parts(values.double(), pattern, width), pattern)[0][lasts]
    room = ROWS.longest + 3
    caches = [values.new_full((len(ROWS.lengths), groups, room, width), 9.0) for _ in "kv"]
    for row, place in enumerate(ROWS.places()):
        for cache, part in zip(caches, parts(values, pattern, width)[1:], strict=True):
            cache[row, :, : place.stop - place.start] = part[place].unflatten(1, (groups, width)).transpose(0, 1)
    counts = np.array(ROWS.lengths)
    for kernels in (C, TORCH):
        keys, of_keys = (cache.clone() for cache in caches)
        for cache in (keys, of_keys):
            cache[torch.arange(len(counts)), :, counts - 1] = 7.0  # what is yet to be stored
        found = kernels.causal_step(values[lasts], keys, of_keys, counts, pattern)
        assert relative_error(found, expected) < error
        assert torch.equal(keys, caches[0])
        assert torch.equal(of_keys, caches[1])


@pytest.mark.parametrize("counts", [[0, 2], [1, 6], [1]])
def test_a_step_that_would_read_out_of_bounds_is_refused(counts: list[int]) -> None:
    pattern = pattern_of(2, 1, 4)
    cache = torch.zeros(2, 1, 5, 4)
    with pytest.raises(ValueError, match=r"of 5|for keys"):
        C.causal_step(torch.zeros(2, 16), cache, cache, np.array(counts), pattern)


def test_gradients_that_lie_otherwise_are_refused() -> None:
    pattern = pattern_of(2, 1, 16)
    values = side_by_side(pattern, 16)
    seen, sums = C.causal(*parts(values, pattern, 16), pattern)
    apart = [part.contiguous() for part in parts(torch.empty_like(values), pattern, 16)]
    with pytest.raises(ValueError, match="lie as"):
        C.causal_backward(seen, *parts(values, pattern, 16), seen, sums, pattern, apart)


@pytest.mark.parametrize(("kind", "error"), KINDS)
@pytest.mark.parametrize(("width", "turned"), [(64, 64), (20, 20), (16, 8)])
def test_rotations_equal_torchs_and_turn_back(width: int, turned: int, kind: torch.dtype, error: float) -> None:
    pattern = pattern_of(3, 1, width)
    values, tokens = side_by_side(pattern, width), pattern.rows.tokens
    angle = torch.rand(tokens, turned // 2, generator=torch.Generator().manual_seed(3)) * 6
    angles = torch.cat([angle.cos(), angle.sin()], dim=1)
    found, expected = values.to(kind), values.double()
    C.rotate(found[:, : 4 * width], angles, 4)
    TORCH.rotate(expected[:, : 4 * width], angles.double(), 4)
    assert relative_error(found, expected) < error
    assert torch.equal(found[:, 4 * width :], values[:, 4 * width :].to(kind))
    C.rotate(found[:, : 4 * width], angles, 4, back=True)
    assert relative_error(found, values.double()) < error


@pytest.mark.parametrize(("kind", "error"), KINDS)
@pytest.mark.parametrize("width", [64, 52, 3])
def test_the_gated_product_and_its_gradients_equal_torchs(width: int, kind: torch.dtype, error: float) -> None:
    generator = torch.Generator().manual_seed(4)
    both = (torch.randn(50, 2 * width, generator=generator) * 4).bfloat16()
    gradient = torch.randn(50, width, generator=generator).bfloat16()
    whole = both.double().requires_grad_()
    gate, up = whole.chunk(2, dim=1)
    expected = functional.silu(gate) * up
    expected.backward(gradient.double())
    assert whole.grad is not None
    for kernels in (C, TORCH):
        own, product = both.to(kind, copy=True), gradient.to(kind, copy=True)
        assert relative_error(kernels.swiglu(own), expected.detach()) < error
        kernels.swiglu_backward(own, product)
        assert relative_error(own, whole.grad) < error
        assert relative_error(product, expected.detach()) < error


def test_the_gated_product_of_large_gates_is_finite() -> None:
    both = torch.tensor([[-1e4, 1e4, 1.0, 1.0]])
    assert C.swiglu(both).tolist() == [[0.0, 1e4]]
    gradient = torch.ones(1, 2)
    C.swiglu_backward(both, gradient)
    assert bool(both.isfinite().all())
