"""A T5 from a file of weights, which says nothing of its shape, or from nothing at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.models.conftest import Load
from tests.engine.models.test_loading import refusal, state_with


def test_a_state_dict_gives_the_model_of_the_folder(load: Load, tiny_t5: Path, tiny_t5_bin: Path) -> None:
    found, expected = load(tiny_t5_bin), load(tiny_t5)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(found.state_dict()[key], value) for key, value in expected.state_dict().items())
    ids = torch.tensor([[5, 6, 7, 1]])
    assert torch.equal(
        found.eval()(input_ids=ids, labels=ids).logits, expected.eval()(input_ids=ids, labels=ids).logits
    )


def test_a_state_dict_with_a_head_of_its_own_keeps_it(load: Load, tiny_t5_bin: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_t5_bin, weights_only=True)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    torch.save(state, tmp_path / "untied.bin")
    found = load(tmp_path / "untied.bin")
    assert torch.equal(found.lm_head.weight, state["lm_head.weight"])
    assert torch.equal(found.shared.weight, state["shared.weight"])


def test_without_a_pretrained_model_the_weights_depend_on_the_seed_alone(load: Load) -> None:
    first, again, other = load("", seed=5), load("", seed=5), load("", seed=6)
    assert torch.equal(first.shared.weight, again.shared.weight)
    assert not torch.equal(first.shared.weight, other.shared.weight)
    assert (first.config.d_model, first.config.num_layers, first.config.dropout_rate) == (32, 2, 0.1)
    assert first.lm_head.weight is first.shared.weight


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_a_state_dict_that_does_not_fit_is_refused_with_names(
    change: str, load: Load, tiny_t5_bin: Path, tmp_path: Path
) -> None:
    """A weight left at random trains for hours before anybody notices."""
    path = tmp_path / "changed.bin"
    torch.save(state_with(change, torch.load(tiny_t5_bin, weights_only=True)), path)
    message = refusal(lambda: load(path)).message
    assert message.code == "model_keys"
    counts = {name: message.args[f"{name}_count"] for name in ("missing", "unexpected", "mismatched")}
    assert counts == {name: int(name == change) for name in counts}
    assert str(message.args[change]).startswith("decoder.block.")


def test_a_state_dict_of_another_shape_is_refused(load: Load, tiny_t5_bin: Path) -> None:
    message = refusal(lambda: load(tiny_t5_bin, num_layers=3)).message
    assert message.code == "model_keys"
    assert "--num_layers" in message.fix()


def test_a_gated_t5_state_dict_with_its_own_head_is_loaded(load: Load, tiny_mt5: Path, tmp_path: Path) -> None:
    """Of T5 1.1, mT5 and Flan; no setting says either."""
    state = load_file(tiny_mt5 / "model.safetensors")
    torch.save(state, tmp_path / "v11.bin")
    shape: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    net = load(tmp_path / "v11.bin", num_decoder_layers=2, **shape)
    loaded = net.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert net.config.is_gated_act
    assert net.get_output_embeddings().weight is not net.get_input_embeddings().weight
