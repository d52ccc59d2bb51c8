import pytest
import torch

from engine.models.precision import choose_precision


@pytest.mark.parametrize(
    ("wanted", "capabilities", "expected", "told"),
    [
        ("fp32", {"avx512_bf16": True}, "fp32", False),
        ("auto", {"avx512_bf16": True}, "bf16", False),
        ("bf16", {"amx_bf16": True}, "bf16", False),
        ("auto", {"avx2": True}, "fp32", True),
        ("bf16", {"avx2": True}, "fp32", True),
    ],
)
def test_bf16_is_used_only_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, wanted: str, capabilities: dict[str, bool], expected: str, told: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    precision, notice = choose_precision(wanted, torch.device("cpu"))
    assert precision == expected
    assert (notice is not None and notice.code == "precision_fallback") == told
