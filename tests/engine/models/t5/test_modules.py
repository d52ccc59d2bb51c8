from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from engine.contract.config import override
from engine.contract.presets import preset
from engine.models import freezing, loading
from engine.models.t5.modules import T5Modules
from tests.engine.models.small import exact, frozen, packed, random_rows, relative_error, small_t5

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gated": {"feed_forward_proj": "gated-gelu"},
    "mt5": {"family": "mt5", "feed_forward_proj": "gated-silu"},
    "deeper decoder": {"num_decoder_layers": 3},
}


@pytest.fixture
def load_both(
    tokenizer: Any, tiny_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], tuple[Any, Any]]:
    """The model of a folder as a packed network takes it, and as transformers loads it."""
    monkeypatch.setattr(loading, "_check_vocabulary", lambda *_: None)  # some here have fewer tokens

    def load(folder: Path) -> tuple[Any, Any]:
        values = {"pretrained_model": str(folder), "tokenizer": str(tiny_tokenizer)}
        config = override(preset("sft-small").config, values)[0]
        return loading.load_model(config, tokenizer, packed=True), loading.load_model(config, tokenizer)

    return load


def modules_of(net: Any, state: dict[str, torch.Tensor] | None = None) -> T5Modules:
    return T5Modules(net.config, net.generation_config, net.state_dict() if state is None else state)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_weights_have_transformers_names_and_order(kind: dict[str, Any]) -> None:
    net = small_t5(**kind)
    ours = modules_of(net)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert [*ours.state_dict()] == [*net.state_dict()]
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), net.parameters(), strict=True))
    assert ours.lm_head.weight is ours.shared.weight
    assert ours.architecture == type(net).__name__


@pytest.mark.parametrize("parts", ["", "encoder,embeddings", "decoder.block.1"])
def test_the_same_parts_freeze_and_lose_their_dropout(parts: str) -> None:
    def training(net: Any) -> dict[str, bool]:
        return {name: module.training for name, module in net.named_modules() if type(module) is torch.nn.Dropout}

    theirs = frozen(small_t5(), parts)
    ours = frozen(modules_of(small_t5()), parts)
    assert [*freezing.trained_parameters(ours)] == [*freezing.trained_parameters(theirs)]
    assert [*freezing.frozen_tensors(ours)] == [*freezing.frozen_tensors(theirs)]
    assert training(ours) == training(theirs)


@pytest.mark.parametrize("length", [1, 2, 7, 30])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_relative_position_buckets_match_transformers(stack: str, length: int) -> None:
    net = small_t5()
    found, expected = (
        getattr(one, stack).block[0].layer[0].SelfAttention.compute_bias(length, length + 1)
        for one in (modules_of(net), net)
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_micro_batches_add_up_to_the_gradient_of_the_plain_formula(kind: dict[str, Any]) -> None:
    rows = random_rows()
    net = small_t5(**kind)
    _, expected = exact(net, rows)
    ours = modules_of(net)
    network = packed(ours)
    for row in rows:
        network.summed_loss([row]).backward()
    found = {name: parameter.grad for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert found.keys() == expected.keys()
    assert max(relative_error(found[name], expected[name]) for name in expected) < 1e-5


Change = Callable[[dict[str, torch.Tensor]], Any]
STRANGE: dict[str, Change] = {
    "a weight is missing": lambda state: state.pop("decoder.block.1.layer.2.DenseReluDense.wo.weight"),
    "a weight too many": lambda state: state.update({"decoder.block.7.x.weight": torch.ones(1)}),
    "another shape": lambda state: state.update({"encoder.final_layer_norm.weight": torch.ones(3)}),
    "whole numbers": lambda state: state.update({"encoder.final_layer_norm.weight": torch.ones(16).long()}),
    "a head of its own": lambda state: state.update({"lm_head.weight": state["lm_head.weight"] + 1}),
    "no embeddings": lambda state: state.pop("shared.weight"),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_weights_of_another_model_are_refused(change: Change) -> None:
    net = small_t5()
    state = dict(net.state_dict())
    change(state)
    with pytest.raises(ValueError, match="weight"):
        modules_of(net, state)


def test_a_model_saves_the_config_transformers_would(
    tiny_t5: Path, load_both: Callable[[Path], tuple[Any, Any]]
) -> None:
    ours, theirs = load_both(tiny_t5)
    assert (type(ours), type(theirs).__name__) == (T5Modules, "T5ForConditionalGeneration")
    assert ours.config.to_dict() == theirs.config.to_dict()
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()


def test_weights_of_16_bits_are_made_fp32(tiny_t5: Path, tmp_path: Path, load_both: Any) -> None:
    AutoModelForSeq2SeqLM.from_pretrained(tiny_t5, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    ours, theirs = load_both(tmp_path / "half")
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert ours.config.to_dict() == theirs.config.to_dict()


def test_a_model_with_its_own_head_is_left_to_transformers(tmp_path: Path, load_both: Any) -> None:
    small_t5(untied=True).save_pretrained(tmp_path / "untied")
    ours, theirs = load_both(tmp_path / "untied")
    assert type(ours) is type(theirs)
