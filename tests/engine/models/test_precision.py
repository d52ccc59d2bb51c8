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
