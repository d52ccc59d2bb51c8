import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.data.batching import Lengths
from engine.data.token_store import Row
from engine.models.freezing import frozen_tensors
from engine.models.network import Network
from engine.models.on_device import find_head
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5
from engine.training import tensorfile
from engine.training.merging import Narrowed, computing_merged, merge_losses, merged, narrowed
from tests.engine.models.adapters import adapted, filled
from tests.engine.models.families import small
from tests.engine.models.small import random_rows, small_t5


def rounded(net: Any, kind: torch.dtype) -> Any:
    """The model with weights that a file of this dtype holds."""
    for parameter in net.parameters():
        parameter.data = parameter.data.to(kind).float()
    return net.eval()


def network(net: Any, kind: torch.dtype = torch.float32) -> Network:
    packed = net.config.model_type == "t5"
    return PackedT5(net, kind, 7) if packed else PaddedNetwork(net, find_head(net), 7, autocast=kind != torch.float32)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_merged_weights_are_rounded_once_and_the_rest_keeps_its_bits(kind: torch.dtype, tmp_path: Path) -> None:
    net = rounded(small_t5(), kind)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    adapters = filled(adapted(net), kind=kind)
    frozen = narrowed(frozen_tensors(net), kind)
    tensorfile.save_file(frozen, tmp_path / "frozen.safetensors")
    whole = merged(tensorfile.stored(tmp_path / "frozen.safetensors"), adapters)
    tensorfile.save_file(whole, tmp_path / "best.safetensors")
    found = load_file(tmp_path / "best.safetensors")
    assert found.keys() == before.keys()
    for name, tensor in found.items():
        layer = adapters.layers.get(name.removesuffix(".weight"))
        expected = before[name] if layer is None else before[name] + layer.change()
        assert tensor.dtype == kind
        assert torch.equal(tensor, expected.to(kind)), name


def test_a_weight_that_would_be_rounded_stays_as_it_is() -> None:
    exact, other, count = torch.tensor([1.5]), torch.tensor([1.0001]), torch.tensor([3])
    found = narrowed({"exact": exact, "other": other, "count": count}, torch.bfloat16)
    assert isinstance(found["exact"], Narrowed)
    assert found["other"] is other
    assert found["count"] is count


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_merged_weights_compute_what_a_model_that_loads_them_does(name: str, kind: torch.dtype) -> None:
    net = rounded(small_t5() if name == "t5" else small("BartForConditionalGeneration", 40), torch.bfloat16)
    loaded = copy.deepcopy(net)
    adapters = filled(adapted(net), kind=torch.bfloat16)
    weights = frozen_tensors(net)
    for key, layer in adapters.layers.items():
        module = loaded.get_submodule(key)
        module.weight.data = (module.weight.data + layer.change()).bfloat16().float()
    computed, rows = network(net, kind), random_rows()
    alone = computed.row_losses(rows)
    with computing_merged(weights, adapters):
        computed.begin_step()
        assert computed.row_losses(rows) == network(loaded, kind).row_losses(rows)
    computed.begin_step()
    assert computed.row_losses(rows) == alone


class Store:
    """What `merge_losses` reads of a token store."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def lengths(self, places: Iterable[int]) -> Lengths:
        rows = [self.rows[place] for place in places]
        return Lengths(np.array([len(row.prompt) for row in rows]), np.array([len(row.label) for row in rows]))

    def rows_at(self, places: Iterable[int]) -> list[Row]:
        return [self.rows[place] for place in places]


@pytest.mark.parametrize(("most", "tokens", "counted"), [(32, 2048, 5), (2, 2048, 2), (32, 20, 2), (32, 1, 1)])
def test_merging_is_measured_on_the_first_rows(
    most: int, tokens: int, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.training.merging.ROWS", most)
    monkeypatch.setattr("engine.training.merging.TOKENS", tokens)
    net, rows = small_t5(), random_rows()
    adapters = filled(adapted(net), kind=torch.bfloat16)
    computed = network(net)
    store: Any = Store(rows)
    found = merge_losses(computed, store, 64, frozen_tensors(net), adapters)
    labels = sum(len(row.label) for row in rows[:counted])
    computed.begin_step()
    assert found.rows == counted
    assert found.adapter == pytest.approx(sum(computed.row_losses(rows[:counted])) / labels)
    assert found.merged != found.adapter
    assert found.merged == pytest.approx(found.adapter, rel=0.01)
