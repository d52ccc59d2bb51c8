"""A causal model on disk is described without loading it as loading it shows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.messages import InputError
from engine.models import freezing, lora
from engine.models.causal import described, shape
from engine.models.model_folder import read_folder
from tests.engine.models.causal.small import model, saved

KINDS = ["llama", "qwen2", "qwen3", "gemma3_text", "phi", "phi3", "gpt2", "gpt_neox", "opt"]
Weights = dict[str, torch.Tensor]


def facts(path: Path, freeze: str = "") -> ModelFacts:
    return described.of_folder(read_folder(path), replace(RunConfig(), freeze=freeze))


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as refused:
        facts(path)
    return refused.value


def parts(net: Any) -> dict[str, list[torch.nn.Parameter]]:
    found: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        found.setdefault(shape.part_of(name), []).append(parameter)
    return found


def outcome(work: Callable[[], Any]) -> tuple[Any, Any]:
    """Parameters and those that learn, or the code and the name of the error."""
    try:
        found = work()
    except InputError as error:
        return error.message.code, error.message.args["name"]
    assert found.trained > 0
    return found.parameters, found.trained


def changed(path: Path, change: Callable[[Weights], Weights]) -> Path:
    file = path / "model.safetensors"
    save_file(change(load_file(file)), file)
    return path


def set_config(path: Path, name: str = "config.json", **values: Any) -> None:
    old = json.loads((path / name).read_text()) if (path / name).exists() else {}
    (path / name).write_text(json.dumps({**old, **values}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("freeze", ["", "embeddings", "layers.0-0,norm", "layers", "layers.1,embeddings"])
def test_what_learns_is_what_loading_shows(tmp_path: Path, kind: str, freeze: str) -> None:
    net = model(kind)
    net.save_pretrained(tmp_path)
    found = facts(saved(tmp_path, kind), freeze)
    counted = freezing.freeze(net, freeze, parts(net))
    assert (found.sizes.parameters, found.sizes.trained) == (counted.parameters, counted.trained)
    assert found.rows == net.get_input_embeddings().weight.shape[0]


@pytest.mark.parametrize("names", ["model.layers.1", "model.layers.1.self_attn.q_proj", "lm_head"])
def test_a_name_of_transformers_freezes_the_same(tmp_path: Path, names: str) -> None:
    net = model("llama")
    counted = freezing.freeze(net, names, parts(net))
    assert facts(saved(tmp_path, "llama"), names).sizes.trained == counted.trained


@pytest.mark.parametrize("kind", ["llama", "qwen3", "phi", "phi3", "gpt2"])
@pytest.mark.parametrize(
    ("lora_parts", "freeze"),
    [("all", ""), ("all", "layers.0"), ("layers.1", "embeddings"), ("o_proj,c_proj,dense", ""), ("mlp.fc2, mlp", "")],
)
def test_adapters_are_counted_as_they_are_attached(tmp_path: Path, kind: str, lora_parts: str, freeze: str) -> None:
    config = replace(RunConfig(), lora_rank=3, lora_parts=lora_parts, freeze=freeze)
    net, folder = model(kind), read_folder(saved(tmp_path, kind))
    loaded = outcome(lambda: lora.prepare_learning(net, config, parts(net))[0])
    assert outcome(lambda: described.of_folder(folder, config).sizes) == loaded


def test_its_shape_is_that_of_its_configuration(tmp_path: Path) -> None:
    found = facts(saved(tmp_path, "gemma3_text", sliding_window=8, head_dim=6, num_hidden_layers=6)).decoder
    assert found is not None
    assert (found.layers, found.sliding_layers, found.window, found.context) == (6, 5, 8, 32)
    assert (found.width, found.hidden_width, found.heads, found.kv_heads, found.head_width) == (16, 24, 4, 2, 6)
    assert found.tied


def test_only_a_table_of_positions_limits_a_row(tmp_path: Path) -> None:
    limits = [facts(saved(tmp_path / kind, kind)).positions.row for kind in ("gpt2", "opt", "llama")]
    assert limits == [32, 32, None]


@pytest.mark.parametrize(
    ("in_generation", "in_config", "stops"),
    [([5, 6], 7, (5, 6)), (9, 7, (9,)), (None, [7, 8], (7, 8)), (None, 7, (7,))],
)
def test_stop_tokens_are_those_of_the_generation_settings(
    tmp_path: Path, in_generation: Any, in_config: Any, stops: tuple[int, ...]
) -> None:
    saved(tmp_path, "llama")
    set_config(tmp_path, eos_token_id=in_config)
    (tmp_path / "generation_config.json").unlink()
    set_config(tmp_path, "generation_config.json", eos_token_id=in_generation)
    special = facts(tmp_path).special
    assert special is not None
    assert special.eos == stops


def test_a_head_stored_next_to_the_embeddings_it_is_counts_once(tmp_path: Path) -> None:
    saved(tmp_path, "llama", tie_word_embeddings=True)
    plain = facts(tmp_path).sizes
    changed(tmp_path, lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    assert facts(tmp_path).sizes == plain


def test_masks_that_older_versions_saved_are_no_parameters(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2")
    plain = facts(tmp_path).sizes
    mask = torch.ones(1, 1, 32, 32)
    changed(tmp_path, lambda tensors: {**tensors, "transformer.h.0.attn.bias": mask})
    assert facts(tmp_path).sizes == plain


def test_names_without_the_prefix_of_the_base_are_its_own(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2")
    plain = facts(tmp_path, "transformer.h.0").sizes
    changed(tmp_path, lambda tensors: {name.removeprefix("transformer."): one for name, one in tensors.items()})
    assert facts(tmp_path, "transformer.h.0").sizes == plain


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "base."])
def test_a_wrappers_prefix_is_taken_off(tmp_path: Path, prefix: str) -> None:
    saved(tmp_path, "qwen3")
    plain = facts(tmp_path).sizes
    changed(tmp_path, lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()})
    found = facts(tmp_path)
    assert (found.wrapper, found.sizes) == (prefix, plain)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_missing_tensor_is_named(tmp_path: Path, kind: str) -> None:
    saved(tmp_path, kind)
    gone = sorted(load_file(tmp_path / "model.safetensors"))[-3]
    changed(tmp_path, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != gone})
    message = refusal(tmp_path).message
    assert (message.code, message.args["missing_count"]) == ("model_keys", 1)
    assert str(message.args["missing"]) in gone


def test_another_shape_and_an_unknown_tensor_are_named(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    more = {"model.norm.weight": torch.ones(8), "model.layers.0.extra.weight": torch.ones(2)}
    changed(tmp_path, lambda tensors: {**tensors, **more})
    message = refusal(tmp_path).message
    assert (message.args["mismatched"], message.args["unexpected"]) == ("norm.weight", "layers.0.extra.weight")


def test_layers_are_counted_in_models_of_any_class(tmp_path: Path) -> None:
    saved(tmp_path, "gpt_neox")
    set_config(tmp_path, num_hidden_layers=3)
    message = refusal(tmp_path).message
    assert "it has 2 layers, and its config.json says 3" in message.what("en")
    assert "其中有 2 层，而 config.json 说有 3 层" in message.what("zh")


def test_what_its_configuration_lacks_is_named(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    set_config(tmp_path, num_attention_heads=None)
    assert refusal(tmp_path).message.code == "model_bad"
