"""transformers' own models are loaded whole, or refused with the names of what does not fit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.models import from_transformers
from tests.engine.models.conftest import Load
from tests.engine.models.families import small
from tests.engine.models.test_loading import refusal, state_with


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_a_folder_with_weights_that_do_not_fit_is_refused(
    change: str, load: Load, tiny_t5: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(tiny_t5, folder)
    path = folder / "model.safetensors"
    save_file(state_with(change, load_file(path)), path, metadata={"format": "pt"})
    message = refusal(lambda: load(folder)).message
    assert message.code == "model_keys"
    assert message.args[f"{change}_count"] == 1
    assert "decoder.block." in str(message.args[change])


@pytest.fixture
def bart() -> Any:
    """A BART whose embeddings have four names."""
    return small("BartForConditionalGeneration")


def test_one_name_of_a_shared_weight_is_enough(bart: Any) -> None:
    state = {name: tensor for name, tensor in bart.state_dict().items() if "embed_tokens" not in name}
    del state["lm_head.weight"]
    again = from_transformers.with_weights(type(bart), bart.config, state, Path("step-00000001")).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in bart.state_dict().items())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("missing", "model.decoder.layers.0.fc1.weight"),
        ("unexpected", "model.decoder.layers.7.fc1.weight"),
        ("mismatched", "model.shared.weight"),
    ],
)
def test_given_weights_that_do_not_fit_are_refused_with_their_names(bart: Any, change: str, name: str) -> None:
    state = bart.state_dict()
    if change == "missing":
        del state[name]
    else:
        state[name] = torch.ones(3, 3)
    message = refusal(lambda: from_transformers.with_weights(type(bart), bart.config, state, Path("step"))).message
    assert (message.code, message.args[change]) == ("model_keys", name)
