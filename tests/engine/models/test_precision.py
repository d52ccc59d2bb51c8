import pytest
import torch

from engine.contract import processor
from engine.models.precision import choose_precision


@pytest.mark.parametrize(
    ("wanted", "flags", "expected", "reported"),
    [
        ("fp32", {"avx512_bf16"}, "fp32", False),
        ("auto", {"avx512_bf16"}, "bf16", False),
        ("bf16", {"amx_bf16"}, "bf16", False),
        ("auto", {"avx2"}, "fp32", True),
        ("bf16", {"avx2"}, "fp32", True),
    ],
)
def test_bf16_is_used_only_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, wanted: str, flags: set[str], expected: str, reported: bool
) -> None:
    monkeypatch.setattr(processor, "flags", lambda: flags)
    precision, notice = choose_precision(wanted, torch.device("cpu"))
    assert precision == expected
    assert (notice is not None and notice.code == "precision_fallback") == reported


def test_ranks_of_unlike_hardware_compute_in_the_same_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two GPUs is too old for bf16."""
    monkeypatch.setattr(processor, "flags", lambda: {"avx512_bf16"})
    precision, notice = choose_precision("auto", torch.device("cpu"), lambda _mine: False)
    assert (precision, notice is not None) == ("fp32", True)
