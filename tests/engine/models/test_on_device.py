"""A model on its device: how it is computed there, and what is reported of it."""

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.contract import processor
from engine.contract.config import RunConfig
from engine.models import freezing
from engine.models import on_device as module
from engine.models.causal import choice
from engine.models.lora import prepare_learning
from engine.models.on_device import OnDevice, on_device
from engine.models.registry import parts_of
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5
from tests.engine.models.causal.exact import drawn, random_rows
from tests.engine.models.small import frozen, small_t5
from tests.engine.models.small import random_rows as random_pairs
from tests.engine.models.test_network import capped


def placed(net: Any, precision: str = "fp32", device: str = "cpu") -> OnDevice:
    return on_device(net, RunConfig(mixed_precision=precision), torch.device(device))


def test_nothing_is_reported_of_a_model_that_is_computed_as_asked() -> None:
    found = placed(small_t5())
    assert isinstance(found.network, PackedT5)
    assert (found.precision, found.fallback, found.head_missing) == ("fp32", None, None)


def test_a_head_that_cannot_be_computed_in_chunks_is_reported() -> None:
    found = placed(capped(small_t5()))
    assert isinstance(found.network, PaddedNetwork)
    assert found.head_missing is not None
    assert "T5ForConditionalGeneration" in found.head_missing.text()


@pytest.mark.parametrize(("flag", "precision"), [("avx512_bf16", "bf16"), ("avx2", "fp32")])
def test_bf16_that_is_not_possible_is_reported(monkeypatch: pytest.MonkeyPatch, flag: str, precision: str) -> None:
    monkeypatch.setattr(processor, "flags", lambda: {flag})
    found = placed(small_t5(), "bf16")
    assert found.precision == precision
    assert (found.fallback is None) == (precision == "bf16")


def test_a_model_is_moved_to_its_device() -> None:
    found = placed(small_t5(), device="meta")
    assert isinstance(found.network, PaddedNetwork)
    assert {parameter.device.type for parameter in found.network.model.parameters()} == {"meta"}


class Sent(TorchDispatchMode):
    """The numbers in fp32 that arrive on the device."""

    wide = 0

    def __torch_dispatch__(self, operation: Any, _types: Any, given: Any = (), named: Any = None) -> Any:
        found = operation(*given, **(named or {}))
        if operation is torch.ops.aten._to_copy.default and found.device.type == "meta" and found.dtype.itemsize == 4:
            self.wide += found.numel()
        return found


def adapted_llama() -> Any:
    net = drawn("llama").train()
    prepare_learning(net, RunConfig(lora_rank=2, lora_parts="all", freeze=""), parts_of(net))
    return net


def test_frozen_weights_reach_a_gpu_in_bf16_alone() -> None:
    net = adapted_llama()
    learning = sum(parameter.numel() for parameter in freezing.trained_parameters(net).values())
    before = {name: tensor.clone() for name, tensor in freezing.frozen_tensors(net).items()}
    sent: Any = Sent
    with sent() as counted:
        found = placed(net, "bf16", device="meta")
    assert {p.dtype for p in net.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert learning <= counted.wide < learning + 10  # with a buffer of positions
    assert found.unchanged.keys() == before.keys()
    assert all(torch.equal(found.unchanged[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_weights_cast_on_their_way_compute_the_same_bits(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The processor stands for a GPU: what it computes is compared with weights that were cast after they arrived."""
    for one in (module, choice):
        monkeypatch.setattr(one, "packs", lambda _device: False)
    monkeypatch.setattr(processor, "flags", lambda: {"avx512_bf16"})
    causal = kind == "causal"
    net = adapted_llama() if causal else frozen(capped(small_t5()), "encoder,embeddings")
    other, rows = copy.deepcopy(net), random_rows() if causal else random_pairs()
    ready = placed(net, "bf16")
    network = module.network_of(other, module.find_head(other), RunConfig().loss_chunk_tokens, bf16=True)
    network.drop_frozen_fp32()
    losses = []
    for each in (ready.network, network):
        each.begin_step()
        losses.append(each.summed_loss(rows))
        losses[-1].backward()
    assert ready.unchanged
    assert torch.equal(*losses)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert one.dtype == two.dtype
        assert one.grad is None or torch.equal(one.grad, two.grad)


def test_on_the_processor_weights_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "flags", lambda: {"avx512_bf16"})
    net = adapted_llama()
    assert placed(net, "bf16").unchanged == {}
    assert {p.dtype for p in net.parameters()} == {torch.float32}
