"""Other families than T5 are described as loading them shows, and what they lack is found."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from engine.contract.facts import Positions, SpecialTokens
from engine.contract.messages import InputError
from engine.models import freezing, from_transformers, inspection, loading
from engine.models.registry import parts_of
from tests.engine.models.families import FAMILIES, saved, small
from tests.engine.models.test_inspection import config_of

OTHERS = [name for name in FAMILIES if name != "MT5ForConditionalGeneration"]


@pytest.mark.parametrize("name", OTHERS)
def test_parameters_of_a_family_are_those_loading_shows(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    facts = inspection.describe(config_of(tmp_path))
    net = from_transformers.loaded(AutoModelForSeq2SeqLM, tmp_path)
    counted = freezing.freeze(net, "encoder,embeddings", parts_of(net))
    assert (facts.sizes.parameters, facts.sizes.trained) == (counted.parameters, counted.trained)
    assert (facts.rows, facts.wrapper) == (400, "")
    assert facts.special == SpecialTokens(0, (1,), 0, ("decoder_start", "pad", "eos"))


@pytest.mark.parametrize("name", OTHERS)
def test_a_tensor_that_is_missing_is_found(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    gone = next(key for key in state if re.search(r"decoder.*(fc2|intermediate|wo)\.?.*weight", key))
    state.pop(gone)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError) as refused:
        inspection.describe(config_of(tmp_path))
    assert refused.value.message.code == "model_keys"
    assert refused.value.message.args["missing"] == gone


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "LongT5ForConditionalGeneration"])
def test_the_positions_of_a_family_limit_its_tokens(name: str, tmp_path: Path) -> None:
    net = saved(name, tmp_path).eval()
    places = inspection.describe(config_of(tmp_path)).positions
    assert places == (Positions(96, 80) if name.startswith("LED") else Positions(96, 96))
    if name.startswith("ProphetNet"):  # which lets all further tokens share the last place
        return
    full = torch.ones((1, places.label or 0), dtype=torch.long)
    with torch.no_grad():
        net(input_ids=full[:, :20], decoder_input_ids=full, use_cache=False)
        with pytest.raises((IndexError, RuntimeError)):
            net(input_ids=full[:, :20], decoder_input_ids=torch.ones_like(full).repeat(1, 2), use_cache=False)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."])
@pytest.mark.parametrize("name", ["BartForConditionalGeneration", "LongT5ForConditionalGeneration"])
def test_wrapper_prefixes_are_removed_and_own_names_kept(name: str, wrapper: str, tmp_path: Path) -> None:
    net = saved(name, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({f"{wrapper}{key}": tensor for key, tensor in state.items()}, tmp_path / "model.safetensors")
    assert inspection.describe(config_of(tmp_path)).wrapper == wrapper
    again = from_transformers.loaded(AutoModelForSeq2SeqLM, tmp_path, wrapper).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in net.state_dict().items())


def rates_of(net: Any) -> set[float]:
    """Every rate of dropout, wherever it is kept."""
    kept = [vars(module) for module in (net.config, *net.modules())]
    named = [value for one in kept for name, value in one.items() if "dropout" in name or "layerdrop" in name]
    inner = [module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)]
    return {float(value) for value in [*named, *inner] if isinstance(value, int | float)}


RATES: dict[str, Any] = {"activation_dropout": 0.2, "attention_dropout": 0.3, "dropout": 0.1, "classifier_dropout": 0.4}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_the_dropout_rate_reaches_every_layer(name: str, rate: float) -> None:
    layers: dict[str, Any] = (
        {"encoder_layerdrop": 0.1, "decoder_layerdrop": 0.1} if "T5" not in name and "Prophet" not in name else {}
    )
    own: dict[str, Any] = {"dropout_rate": 0.1} if "T5" in name else {**RATES, **layers}
    net = small(name, **own)
    assert len(rates_of(net)) > 1 or "T5" in name
    loading.set_dropout(net, rate)
    assert rates_of(net) == {rate}


@pytest.mark.parametrize("name", ["BartForConditionalGeneration", "PegasusForConditionalGeneration"])
def test_without_dropout_the_gradient_is_that_of_float64(name: str) -> None:
    layers: dict[str, Any] = {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5}
    net, exact = small(name, **RATES, **layers), small(name).double().eval()
    exact.load_state_dict({key: tensor.double() for key, tensor in net.state_dict().items()})
    loading.set_dropout(net, 0.0)
    net.train()
    torch.manual_seed(0)
    rows = {"input_ids": torch.randint(2, 400, (3, 20)), "labels": torch.randint(2, 400, (3, 15))}
    for one in (net, exact):
        one(**rows).loss.backward()
    found, wanted = (
        torch.cat([p.grad.double().flatten() for _, p in sorted(one.named_parameters()) if p.grad is not None])
        for one in (net, exact)
    )
    assert float((found - wanted).norm() / wanted.norm()) < 2e-6
