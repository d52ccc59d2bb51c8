"""Which of the two implementations is used."""

import inspect

import pytest
import torch
from torch import Tensor

from engine.cpu import compiled, reference
from engine.cpu.kernels import Kernels, kernels_for


@pytest.mark.parametrize(
    ("values", "compiles"),
    [(torch.zeros(1), True), (torch.zeros(1).bfloat16(), True), (torch.zeros(1).double(), False),
     (torch.zeros(1).half(), False), (torch.zeros(1, device="meta"), False)],
    ids=["fp32", "bf16", "fp64", "fp16", "elsewhere"],
)  # fmt: skip
def test_compiled_code_is_for_fp32_and_bf16_on_the_cpu(values: Tensor, compiles: bool) -> None:
    assert kernels_for(values) is (compiled if compiles else reference)


@pytest.mark.parametrize("name", [name for name in vars(Kernels) if not name.startswith("_")])
def test_reference_and_compiled_have_the_same_signatures(name: str) -> None:
    declared = list(inspect.signature(getattr(Kernels, name)).parameters.values())[1:]
    for module in (compiled, reference):
        assert list(inspect.signature(getattr(module, name)).parameters.values()) == declared
