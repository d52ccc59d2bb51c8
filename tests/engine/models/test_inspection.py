"""A model on disk is described without loading it as loading it shows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from engine.contract.config import RunConfig, override
from engine.contract.facts import SpecialTokens
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.models import freezing, inspection, lora
from engine.models.registry import parts_of

TOKENS: dict[str, Any] = {"decoder_start_token_id": 0}
SMALL: dict[str, Any] = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}


def config_of(path: Path | str, freeze: str = "encoder,embeddings") -> RunConfig:
    """Settings with that model."""
    config, _ = override(preset("sft-small").config, {"pretrained_model": str(path), "freeze": freeze, **SMALL})
    return config


def t5(**more: Any) -> T5ForConditionalGeneration:
    """A small T5 with 40 tokens."""
    return T5ForConditionalGeneration(T5Config(vocab_size=40, **TOKENS, **SMALL, **more))


def refusal(path: Path) -> InputError:
    """The error that a model is refused with."""
    with pytest.raises(InputError) as refused:
        inspection.describe(config_of(path))
    return refused.value


MORE = [{}, {"feed_forward_proj": "gated-gelu"}, {"tie_word_embeddings": False}, {"relative_attention_num_buckets": 8}]


@pytest.mark.parametrize("freeze", ["", "encoder", "encoder,embeddings", "decoder", "decoder.block.0,shared"])
@pytest.mark.parametrize("more", MORE, ids=str)
def test_parameters_of_a_folder_are_those_loading_shows(tmp_path: Path, more: dict[str, Any], freeze: str) -> None:
    net = t5(**more)
    net.save_pretrained(tmp_path)
    facts = inspection.describe(config_of(tmp_path, freeze))
    counted = freezing.freeze(net, freeze, parts_of(net))
    assert (facts.sizes.parameters, facts.sizes.trained) == (counted.parameters, counted.trained)
    assert facts.rows == 40
    assert facts.special == SpecialTokens(0, (1,), 0, ("decoder_start", "pad", "eos"))


@pytest.mark.parametrize("more", MORE, ids=str)
@pytest.mark.parametrize(("lora_parts", "freeze"), [("all", ""), ("all", "encoder"), ("q,v, wo", ""), ("decoder", "")])
def test_adapters_of_a_t5_are_counted(tmp_path: Path, more: dict[str, Any], lora_parts: str, freeze: str) -> None:
    net = t5(**more)
    net.save_pretrained(tmp_path)
    config = replace(config_of(tmp_path, freeze), lora_rank=2, lora_parts=lora_parts)
    counted, _ = lora.prepare_learning(net, config, parts_of(net))
    sizes = inspection.describe(config).sizes
    assert (sizes.parameters, sizes.trained) == (counted.parameters, counted.trained)


def test_a_model_of_another_family_is_counted(tmp_path: Path) -> None:
    net = BartForConditionalGeneration(
        BartConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                   decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32)
    )  # fmt: skip
    net.save_pretrained(tmp_path)
    facts = inspection.describe(config_of(tmp_path))
    counted = freezing.freeze(net, "encoder,embeddings", parts_of(net))
    assert (facts.sizes.parameters, facts.sizes.trained) == (counted.parameters, counted.trained)


def test_problems_are_described_in_both_languages(tmp_path: Path) -> None:
    (tmp_path / "empty.bin").touch()
    for path, en, zh in (
        (tmp_path, "it has no config.json", "其中没有 config.json"),
        (tmp_path / "empty.bin", "it is empty", "文件为空"),
        (Path("/dev/null"), "it is a device or a socket", "它是设备或套接字"),
    ):
        message = refusal(path).message
        assert en in message.what("en")
        assert zh in message.what("zh")


@pytest.mark.parametrize(
    ("folder", "said", "title"),
    [
        ("smollm2", {}, "smollm2"),
        ("here", {"_name_or_path": "HuggingFaceTB/SmolLM2-135M"}, "SmolLM2-135M"),
        ("here", {"_name_or_path": "/home/me/old"}, "here"),
        ("here", {"_name_or_path": 7}, "here"),
        ("chat/best", {"_name_or_path": ""}, "chat/best"),
        ("run/checkpoint-500", {"_name_or_path": "out/checkpoint-400"}, "run/checkpoint-500"),
        ("models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca", {}, "Qwen3-0.6B"),
    ],
)
def test_a_model_is_called_what_people_call_it(folder: str, said: dict[str, Any], title: str, tmp_path: Path) -> None:
    assert inspection.title_of(tmp_path / folder, said) == title


@pytest.mark.parametrize(("stored", "shown"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16"), (None, "fp32")])
def test_the_dtype_of_its_files_is_known(tmp_path: Path, stored: torch.dtype | None, shown: str) -> None:
    net: Any = t5()
    (net.to(stored) if stored else net).save_pretrained(tmp_path)
    facts = inspection.describe(config_of(tmp_path))
    assert (facts.dtype, facts.kind, facts.title) == (shown, "t5", tmp_path.name)
    assert inspection.describe(config_of("")).title == "new T5"
