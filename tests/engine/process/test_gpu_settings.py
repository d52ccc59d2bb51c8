"""What CUDA and torch's allocator find in the environment."""

import pytest
import torch

from engine.process.gpu_settings import settle


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}),
        ({"PYTORCH_ALLOC_CONF": ""}, {"PYTORCH_ALLOC_CONF": ""}),
    ],
)
def test_gpu_memory_does_not_fragment_unless_a_person_says_how(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, str], found: dict[str, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    given = dict(own)
    settle(given)
    assert given == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **found}


def test_gpus_have_the_drivers_order_unless_a_person_says_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    settle(given)
    assert given == {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
