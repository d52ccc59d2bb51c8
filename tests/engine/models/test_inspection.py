"""A model on disk is described without loading it as loading it shows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from engine.contract.config import RunConfig, override
from engine.contract.facts import SpecialTokens
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.models import freezing, inspection
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
    assert facts.special == SpecialTokens(0, (1,), 0, ("decoder_start", "pad"))


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_parameters_of_a_state_dict_are_those_loading_shows(tmp_path: Path, suffix: str) -> None:
    net = t5()
    path = tmp_path / f"model{suffix}"
    state = net.state_dict()
    if suffix == ".bin":
        torch.save(state, path)
    else:
        save_file(
            {
                "shared.weight": state["shared.weight"],
                **{k: v for k, v in state.items() if ".block." in k or "final" in k},
            },
            path,
        )
    facts = inspection.describe(config_of(path))
    counted = freezing.freeze(net, "encoder,embeddings", parts_of(net))
    assert (facts.sizes.parameters, facts.sizes.trained, facts.rows) == (counted.parameters, counted.trained, 40)


def test_a_model_of_another_family_is_counted(tmp_path: Path) -> None:
    net = BartForConditionalGeneration(
        BartConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                   decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32)
    )  # fmt: skip
    net.save_pretrained(tmp_path)
    facts = inspection.describe(config_of(tmp_path))
    counted = freezing.freeze(net, "encoder,embeddings", parts_of(net))
    assert (facts.sizes.parameters, facts.sizes.trained) == (counted.parameters, counted.trained)


def test_a_new_model_has_all_but_its_embeddings() -> None:
    facts = inspection.describe(config_of("", freeze=""))
    whole = freezing.freeze(t5(), "", parts_of(t5())).parameters
    assert facts.sizes.parameters == whole - 40 * SMALL["d_model"]


@pytest.mark.parametrize("freeze", ["", "encoder,embeddings", "decoder"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_new_model_with_its_tokenizer_has_the_sizes_of_a_folder(tmp_path: Path, freeze: str, optimizer: str) -> None:
    t5().save_pretrained(tmp_path)
    new, kept = (replace(config_of(path, freeze), optimizer=optimizer) for path in ("", tmp_path))
    assert inspection.describe(new).for_tokens(40).sizes == inspection.describe(kept).sizes


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 10**5), ("vocab_size", 10**9), ("d_model", 1 << 40), ("num_labels", 10**8)]
)
def test_impossible_sizes_are_refused_at_once(tmp_path: Path, name: str, value: int) -> None:
    t5().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, name: value}))
    error = refusal(tmp_path)
    assert error.message.code == "model_bad"
    assert name in error.message.text()


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


def test_an_old_format_state_dict_has_the_same_parameters(tmp_path: Path) -> None:
    state = t5().state_dict()
    torch.save(state, tmp_path / "new.bin")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    new, old = (inspection.describe(config_of(tmp_path / f"{name}.bin")) for name in ("new", "old"))
    assert (new.sizes, new.rows) == (old.sizes, old.rows)
