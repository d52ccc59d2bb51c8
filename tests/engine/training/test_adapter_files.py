"""Adapters are exchanged with peft, both ways, with equal outputs."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from engine.models import lora
from engine.training.adapter_files import PREFIX, config_of, write_adapter
from tests.engine.models.adapters import adapted, filled
from tests.engine.models.families import small
from tests.engine.models.small import small_t5

# peft asks transformers for what its next version drops.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*", "ignore::UserWarning:peft.*")


def causal(name: str) -> Any:
    kind = getattr(transformers, f"{name}ForCausalLM")
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    return kind(kind.config_class(vocab_size=40, num_hidden_layers=2, head_dim=4, **shape))


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: causal("Llama"),
    "qwen3": lambda: causal("Qwen3"),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32)),
    "t5": small_t5,
    "bart": lambda: small("BartForConditionalGeneration", 40),
}


def outputs(net: Any) -> torch.Tensor:
    ids = torch.arange(4, 12)[None]
    more = {"decoder_input_ids": ids[:, :5]} if net.config.is_encoder_decoder else {}
    with torch.no_grad():
        logits: torch.Tensor = net.eval()(input_ids=ids, **more).logits
    return logits


@pytest.fixture(params=MODELS)
def base(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    return MODELS[request.param]()


@pytest.mark.parametrize(
    "settings", [{}, {"lora_scaling": "rank-stabilized", "lora_alpha": 6.0}, {"lora_parts": "0"}], ids=str
)
def test_peft_loads_ours_with_equal_logits(base: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    if "lora_parts" in settings:  # of one layer: short names would mean those of the others too
        settings = {"lora_parts": next(iter(lora.linear_layers(base))).rpartition(".")[0]}
    original = copy.deepcopy(base)
    adapters = filled(adapted(base, **settings))
    write_adapter(tmp_path / "adapter", base, adapters, "base")
    theirs = PeftModel.from_pretrained(original, str(tmp_path / "adapter"))
    torch.testing.assert_close(outputs(theirs), outputs(base), rtol=1e-5, atol=1e-6)
    theirs.save_pretrained(str(tmp_path / "again"))
    ours, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("adapter", "again"))
    assert ours.keys() == again.keys()
    assert all(torch.equal(ours[name], again[name]) for name in ours)


def test_what_peft_saves_is_ours_with_equal_logits(base: Any, tmp_path: Path) -> None:
    task = "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM"
    transposed = base.config.model_type == "gpt2"
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type=task, fan_in_fan_out=transposed)
    theirs = get_peft_model(copy.deepcopy(base), config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(str(tmp_path))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    adapters = adapted(base)
    state = {name.removeprefix(PREFIX).removesuffix(".weight"): tensor for name, tensor in saved.items()}
    lora.restore(adapters, state, str(tmp_path))
    torch.testing.assert_close(outputs(base), outputs(theirs), rtol=1e-5, atol=1e-6)
    wanted = json.loads((tmp_path / "adapter_config.json").read_text())
    ours = {**config_of(base, adapters, "base")}
    wanted.update(
        {"base_model_name_or_path": ours["base_model_name_or_path"], "target_modules": ours["target_modules"]}
    )
    assert {name: wanted[name] for name in ours} == ours


def test_the_path_of_the_base_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = small_t5()
    assert config_of(net, adapted(net), "base")["base_model_name_or_path"] == str(tmp_path / "base")
