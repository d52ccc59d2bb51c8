"""Which models are causal ones, and how they are loaded, saved and built again."""

from pathlib import Path

import pytest
import torch
from transformers.models.auto import modeling_auto

from engine.contract.config import RunConfig
from engine.models import registry
from engine.models.causal.family import MODEL_TYPES, Causal
from engine.models.loading import set_dropout
from engine.models.model_folder import read_folder
from engine.models.registry import opened
from tests.engine.models.causal.exact import drawn
from tests.engine.models.causal.small import model, saved

# Encoders, decoders of speech and images, drafts for other models, no language model of one direction, and one that
# rewrites its own weights between training and evaluation.
OTHERS = {
    "bert-generation", "moshi", "musicgen", "musicgen_melody", "trocr", "whisper", "gemma4_assistant",
    "gemma4_unified_assistant", "xlnet", "rwkv",
}  # fmt: skip


def test_every_decoder_of_text_in_transformers_is_known() -> None:
    mappings = ("SEQ_TO_SEQ_CAUSAL_LM", "MULTIMODAL_LM", "IMAGE_TEXT_TO_TEXT", "MASKED_LM")
    other = {name for kind in mappings for name in getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES")}
    assert set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - other - OTHERS == MODEL_TYPES


def test_no_model_belongs_to_two_families() -> None:
    for name in MODEL_TYPES:
        assert [type(family) for family in registry.FAMILIES if family.fits({"model_type": name})] == [Causal]
    assert not Causal().fits({"model_type": ["llama"]})


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_is_loaded_in_bf16_if_its_files_hold_that(kind: torch.dtype, tmp_path: Path) -> None:
    drawn("llama").to(kind).save_pretrained(tmp_path)
    net = Causal().load(read_folder(tmp_path), "", packed=True)
    wanted = torch.bfloat16 if kind == torch.bfloat16 else torch.float32
    assert {parameter.dtype for parameter in net.parameters()} == {wanted}


def test_a_model_is_built_with_each_weight_in_its_own_dtype(tmp_path: Path) -> None:
    net = drawn("llama", tie_word_embeddings=True)
    state = {name: p.detach().bfloat16() if "layers.0" in name else p.detach() for name, p in net.named_parameters()}
    built = Causal().build(net.config.to_dict(), state, tmp_path, packed=True)
    assert all(torch.equal(parameter, state[name]) for name, parameter in built.named_parameters())
    assert {p.dtype for p in built.parameters()} == {torch.float32, torch.bfloat16}
    assert built.lm_head.weight is built.model.embed_tokens.weight
    ids = torch.arange(3, 9)[None]
    with torch.autocast("cpu", torch.bfloat16):
        assert built(input_ids=ids).logits.isfinite().all()


def test_what_wraps_a_models_names_is_removed(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(tmp_path, "llama")
    state = load_file(tmp_path / "model.safetensors")
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    folder, family = read_folder(tmp_path), Causal()
    assert family.wrapper(folder) == "module."
    found = family.load(folder, "module.", packed=True).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_dropout_is_set_under_every_name_that_a_model_has_for_it() -> None:
    net = drawn("gpt2")
    set_dropout(net, 0.25)
    assert {net.config.attn_pdrop, net.config.resid_pdrop, net.config.embd_pdrop} == {0.25}
    assert {module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}


@pytest.mark.parametrize(("model_type", "most"), [("gpt2", {"row": 32}), ("llama", {}), ("opt", {"row": 32})])
def test_a_loaded_model_has_the_positions_that_its_files_say(
    model_type: str, most: dict[str, int], tmp_path: Path
) -> None:
    net = model(model_type)
    net.save_pretrained(tmp_path)
    family, folder = opened(tmp_path)
    assert family.positions(net) == family.describe(folder, RunConfig(freeze="")).positions.known == most
