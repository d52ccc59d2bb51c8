"""Models that do not write text from text are named as what their weights are, whatever their configuration says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.contract.conversing import Open
from engine.contract.messages import InputError, Message
from engine.models import inspection
from engine.replying.opening import opened
from tests.engine.models.families import saved
from tests.engine.models.test_inspection import config_of, t5

LAYERS = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
BERTS: dict[str, Any] = {"vocab_size": 40, **LAYERS}
GPT2S: dict[str, Any] = {"vocab_size": 40, "n_embd": 8, "n_layer": 1, "n_head": 2}
WHISPERS: dict[str, Any] = {
    "vocab_size": 40, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_source_positions": 8,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens")),
}  # fmt: skip
BARTS: dict[str, Any] = {**WHISPERS, "max_position_embeddings": 8}
T5S: dict[str, Any] = {"vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
# The class of a model, its shape, and what it is called.
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "BertForMaskedLM": (BERTS, "an encoder alone"),
    "RobertaModel": (BERTS, "an encoder alone"),
    "DistilBertForMaskedLM": ({"vocab_size": 40, "dim": 8, "n_layers": 1, "n_heads": 2}, "an encoder alone"),
    "T5EncoderModel": (T5S, "an encoder alone"),
    "BartForCausalLM": (BARTS, "a decoder alone"),
    "LlamaForSequenceClassification": (BERTS, "scores or classifies"),
    "WhisperForConditionalGeneration": (WHISPERS, "reads speech"),
    "BartForSequenceClassification": (BARTS, "scores or classifies"),
    "T5ForSequenceClassification": (T5S, "scores or classifies"),
}


def written(name: str, shape: dict[str, Any], folder: Path, **said: Any) -> Path:
    """The folder of a small model of that class, whose configuration says what is `said`."""
    kind = getattr(transformers, name)
    kind(kind.config_class(**shape)).save_pretrained(folder)
    return says(folder, **said)


def says(folder: Path, **said: Any) -> Path:
    """The folder, whose configuration says what is `said`; None takes a setting out."""
    file = folder / "config.json"
    whole = {**json.loads(file.read_text()), **said}
    file.write_text(json.dumps({name: value for name, value in whole.items() if value is not None}))
    return folder


def refusal(path: Path) -> Message:
    """What the check says of a model; a reply says the same, though the folder has no tokenizer."""
    with pytest.raises(InputError) as refused:
        inspection.describe(config_of(path))
    message = refused.value.message
    if path.is_dir():
        with pytest.raises(InputError) as again:
            opened(Open(str(path)))
        assert again.value.message == message
    assert message.code == "model_kind"
    assert "{" not in message.text("en") + message.text("zh")
    assert message.fix("en") != message.fix("zh") != ""
    return message


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_without_encoder_or_decoder_is_named(name: str, tmp_path: Path) -> None:
    shape, called = OTHERS[name]
    said = refusal(written(name, shape, tmp_path)).what()
    assert called in said
    assert name in said


def test_a_model_that_reads_images_is_named(tmp_path: Path) -> None:
    shape: dict[str, Any] = {**LAYERS, "image_size": 8, "patch_size": 4}
    sight, words = transformers.ViTConfig(**shape), transformers.GPT2Config(**GPT2S, add_cross_attention=True)
    both = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(sight, words)
    transformers.VisionEncoderDecoderModel(both).save_pretrained(tmp_path)
    assert "reads images" in refusal(tmp_path).what()


@pytest.mark.parametrize(
    ("name", "shape", "called"),
    [
        ("BertForMaskedLM", BERTS, "an encoder alone"),
        ("GPT2LMHeadModel", GPT2S, "a decoder alone"),
        ("BartForConditionalGeneration", BARTS, "not a T5 by the names of its weights"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_not_believed(
    name: str, shape: dict[str, Any], called: str, tmp_path: Path
) -> None:
    lie = {**T5S, "model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
    assert called in refusal(written(name, shape, tmp_path, **lie)).what()


def test_custom_code_is_no_known_family(tmp_path: Path) -> None:
    saved("BartForConditionalGeneration", tmp_path)
    message = refusal(says(tmp_path, model_type="my_own", auto_map={"AutoModel": "own.Model"}))
    assert "code of its own, which is never run" in message.what()


@pytest.mark.parametrize("name", ["BartForConditionalGeneration", "MT5ForConditionalGeneration"])
@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn], ids=str)
def test_low_bit_weights_are_reported_as_quantized(name: str, kind: torch.dtype, tmp_path: Path) -> None:
    saved(name, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    packed = next(key for key in state if "decoder" in key and state[key].dim() == 2)
    save_file({**state, packed: state[packed].to(kind)}, tmp_path / "model.safetensors", {"format": "pt"})
    assert "quantized" in refusal(tmp_path).what()
    assert packed in refusal(tmp_path / "model.safetensors").what()
    assert "gptq" in refusal(says(tmp_path, quantization_config={"quant_method": "gptq"})).what()
    (tmp_path / "model.safetensors").rename(tmp_path / "gptq_model-4bit-128g.safetensors")
    assert "gptq" in refusal(tmp_path).what()


def test_full_weights_with_a_quantization_setting_are_explained(tmp_path: Path) -> None:
    t5().save_pretrained(tmp_path)
    message = refusal(says(tmp_path, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}))
    assert message.args["drop"] == "quantization_config"
    assert inspection.describe(config_of(says(tmp_path, quantization_config=None))).rows == 40


def test_a_causal_model_with_code_of_its_own_is_called_one(tmp_path: Path) -> None:
    written("LlamaForCausalLM", BERTS, tmp_path, model_type="minimind", auto_map={"AutoModel": "own.Model"})
    said = refusal(tmp_path).what()
    assert "a causal model of a class that transformers does not have with code of its own" in said


@pytest.mark.parametrize(
    ("name", "shape", "called"),
    [
        ("BertForMaskedLM", BERTS, "an encoder alone"),
        ("T5EncoderModel", T5S, "an encoder alone"),
        ("GPT2LMHeadModel", GPT2S, "a file of a causal model's weights"),
    ],
)
def test_a_file_of_other_weights_is_named_too(name: str, shape: dict[str, Any], called: str, tmp_path: Path) -> None:
    assert called in refusal(written(name, shape, tmp_path) / "model.safetensors").what()
