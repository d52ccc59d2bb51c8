import pytest
import torch
from torch.nn import functional

from engine.cpu import prepacking
from engine.cpu.prepacking import Prepacked, linear

KINDS = [torch.float32, torch.bfloat16, torch.float64]  # the last of which is never prepacked
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float64: 1e-12}


@pytest.fixture(params=["prepacked", "as it is"])
def packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both with and without torch's operations for it."""
    if request.param == "as it is":
        monkeypatch.setattr(prepacking, "_prepacks", lambda _kind: False)


@pytest.mark.usefixtures("packing")
@pytest.mark.parametrize("rows", [0, 1, 3, 70])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prepacked_weight_multiplies_as_it_did_before(kind: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(33, 20).to(kind), torch.randn(rows, 20).to(kind)
    found = linear(x, Prepacked(weight))
    assert found.dtype == kind
    torch.testing.assert_close(found, linear(x, weight), rtol=TOLERANCE[kind], atol=TOLERANCE[kind])


@pytest.mark.usefixtures("packing")
def test_weights_prepacked_together_are_stacked() -> None:
    torch.manual_seed(0)
    first, second, x = torch.randn(5, 8), torch.randn(3, 8), torch.randn(4, 8)
    prepacked = Prepacked(first, second)
    expected = torch.cat([functional.linear(x, first), functional.linear(x, second)], dim=1)
    torch.testing.assert_close(prepacked.times(x), expected)


@pytest.mark.usefixtures("packing")
def test_a_transposed_or_sliced_weight_can_be_prepacked() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(8, 5).t(), torch.randn(4, 20)[:, 3:11]
    torch.testing.assert_close(Prepacked(weight).times(x), x @ weight.t())
