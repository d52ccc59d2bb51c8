"""Norms of gradients, held against the same in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from engine.cpu.norms import all_finite, norm
from tests.engine.training.test_host_waits import Waits


def in_double(values: Tensor) -> float:
    """The norm, a million values at a time."""
    return math.sqrt(sum(float(part.double().square().sum()) for part in values.flatten().split(1 << 20)))


def a_matrix(rows: int, columns: int, of: str) -> Tensor:
    """Random values, equal ones (whose sums all err to one side), or such as span ten powers of ten."""
    chance = torch.Generator().manual_seed(rows)
    if of == "equal":
        return torch.full((rows, columns), 0.1)
    values = torch.randn(rows, columns, generator=chance)
    return values if of == "random" else values * 10 ** torch.linspace(-8, 2, rows)[:, None]


@pytest.mark.parametrize("of", ["random", "equal", "uneven"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3_000_001), (3001, 768), (29_298, 64)])
def test_the_norm_is_exact(rows: int, columns: int, of: str, way: None) -> None:
    assert way is None
    values = a_matrix(rows, columns, of)
    assert norm([values]) == pytest.approx(in_double(values), rel=1e-7)


def test_the_norm_of_the_largest_vocabulary_is_exact(way: None) -> None:
    """mT5's head: added up in fp32 it is 1.4 % off."""
    assert way is None
    row = torch.randn(512, generator=torch.Generator().manual_seed(0))
    gradient = row.expand(250_112, 512).contiguous()
    assert norm([gradient]) == pytest.approx(in_double(row) * math.sqrt(250_112), rel=1e-7)
    assert abs(float(nn.utils.get_total_norm([gradient])) / in_double(row) / math.sqrt(250_112) - 1) > 1e-3


def test_the_norm_of_several_tensors_is_that_of_all_values(way: None) -> None:
    assert way is None
    parts = [torch.full((3, 5), 2.0), torch.full((7,), -1.0), torch.zeros(0), torch.full((2, 2, 2), 0.5)]
    assert norm(parts) == pytest.approx(math.sqrt(15 * 4 + 7 + 8 * 0.25), rel=1e-7)
    assert norm([]) == 0.0


def test_values_in_bf16_and_columns_of_a_matrix_count_too(way: None) -> None:
    assert way is None
    values = a_matrix(400, 300, "random")
    assert norm([values.t()]) == pytest.approx(in_double(values), rel=1e-7)
    assert norm([values.bfloat16()]) == pytest.approx(in_double(values.bfloat16()), rel=1e-2)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_value_that_is_not_finite_makes_the_norm_so(bad: float, way: None) -> None:
    assert way is None
    values = torch.ones(1000)
    values[777] = bad
    assert not math.isfinite(norm([values]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_one_value_that_is_not_finite_is_found_anywhere(bad: float | None) -> None:
    parts = [torch.zeros(0), torch.full((3, 5), 3e38), torch.ones(7, dtype=torch.bfloat16)]
    if bad is not None:
        parts[2][6] = bad
    assert all_finite(parts) == all_finite(reversed(parts)) == (bad is None)
    assert all_finite([])


def test_whether_all_are_finite_is_asked_of_a_gpu_once() -> None:
    with Waits([]) as waits:
        assert all_finite([torch.ones(3) for _ in range(9)])
    assert waits.found == {"_local_scalar_dense": 1}
