from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.models.causal import shape as causal_shape
from engine.models.counting import counted, state_bytes
from engine.models.lora import prepare_learning
from engine.models.t5 import shape as t5_shape
from engine.models.weightfile import Tensor
from engine.training.optim import make_optimizer
from tests.engine.models.adapters import settings
from tests.engine.models.small import small_t5

SHAPES = [(7,), (1,), (5, 3), (3, 5), (2, 3, 4), ()]


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_state_bytes_are_those_of_the_optimizer(optimizer: str, shape: tuple[int, ...]) -> None:
    parameter = nn.Parameter(torch.ones(shape))
    made = make_optimizer(replace(RunConfig(), optimizer=optimizer), [parameter])
    parameter.grad = torch.ones_like(parameter)
    made.step()
    kept = [value for value in made.state[parameter].values() if isinstance(value, torch.Tensor)]
    assert state_bytes(optimizer, shape) == sum(value.numel() * value.element_size() for value in kept)


def tensors(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("_", "."): Tensor("F32", shape, name) for name, shape in shapes.items()}


MODEL = tensors(embed_weight=(10, 4), a_q=(4, 4), a_k=(4, 4), ab_q=(2, 4))


def sizes(freeze: str) -> Any:
    return counted(MODEL, lambda name: name.partition(".")[0], bool, replace(RunConfig(), freeze=freeze))


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [("", 80), ("a", 48), (" a , embed ", 8), ("a.q", 64), ("ab", 72), ("a,a.q,ab", 40)],
)
def test_a_part_is_frozen_whole_and_any_other_name_by_its_start(freeze: str, trained: int) -> None:
    assert (sizes(freeze).parameters, sizes(freeze).trained) == (80, trained)


@pytest.mark.parametrize(("freeze", "code"), [("c", "freeze_unknown"), ("a,ab,embed", "nothing_trainable")])
def test_what_cannot_be_frozen_is_refused(freeze: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        sizes(freeze)
    assert refused.value.message.code == code


LAYERS = tensors(**{f"layers_{number}_w": (2, 2) for number in range(12)}, embed_w=(10, 4))


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [("layers", 40), ("layers.0-11", 40), ("layers.1", 84), ("layers.1,layers.3-4 ", 76), ("layers.10-10", 84),
     ("layers.1.w", 84)],
)  # fmt: skip
def test_layers_are_frozen_by_number_and_by_range(freeze: str, trained: int) -> None:
    def part_of(name: str) -> str:
        return ".".join(name.split(".")[: 2 if name.startswith("layers") else 1])

    assert counted(LAYERS, part_of, bool, replace(RunConfig(), freeze=freeze)).trained == trained


@pytest.mark.parametrize("freeze", ["layers.10-12", "layers.3-1", "layer.1", "layers.0-99999999", "layers.1-"])
def test_a_range_beyond_the_layers_is_refused_as_it_was_written(freeze: str) -> None:
    config = replace(RunConfig(), freeze=f"embed,{freeze}")
    with pytest.raises(InputError) as refused:
        counted(LAYERS, lambda name: ".".join(name.split(".")[:-1]), bool, config)
    assert refused.value.message.args["name"] == freeze
    assert refused.value.message.args["known"] == "layers.0-11, embed"


def causal(name: str, **more: Any) -> Any:
    shape = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, **more}
    torch.manual_seed(0)
    kind = getattr(transformers, f"{name}ForCausalLM")
    return kind(kind.config_class(**shape))


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32))


SMALL: dict[str, Any] = {"num_key_value_heads": 2, "intermediate_size": 24, "head_dim": 4}
MODELS: dict[str, Callable[[], Any]] = {
    "t5": small_t5,
    "t5 1.1": lambda: small_t5("mt5", untied=True, feed_forward_proj="gated-gelu"),
    "llama": lambda: causal("Llama", **SMALL, tie_word_embeddings=False),
    "qwen3": lambda: causal("Qwen3", **SMALL),
    "gemma3": lambda: causal("Gemma3", **SMALL),
    "phi": lambda: causal("Phi", intermediate_size=24),
    "phi3": lambda: causal("Phi3", num_key_value_heads=2, intermediate_size=24, pad_token_id=0),
    "gpt2": gpt2,
}


@pytest.mark.parametrize("parts", ["all", "one layer"])
@pytest.mark.parametrize("name", MODELS)
def test_adapters_are_counted_by_names_as_they_are_made(name: str, parts: str) -> None:
    net = MODELS[name]()
    t5 = net.config.is_encoder_decoder
    if parts != "all":
        parts = "decoder.block.1" if t5 else "layers.1"
    config = settings(lora_rank=3, lora_parts=parts, optimizer="adamw")
    shape: Any = t5_shape if t5 else causal_shape
    part_of = shape.part_of
    described = {key: Tensor("F32", tuple(p.shape), key) for key, p in net.named_parameters()}
    sizes = counted(described, part_of, shape.is_linear, config)
    parts_by_name: dict[str, list[nn.Parameter]] = {}
    for key, p in net.named_parameters():
        parts_by_name.setdefault(part_of(key), []).append(p)
    frozen, adapters = prepare_learning(net, config, parts_by_name)
    assert adapters is not None
    shapes = [tuple(p.shape) for p in adapters.parameters().values()]
    assert (sizes.parameters, sizes.trained) == (frozen.parameters, frozen.trained)
    assert sizes.optimizer_bytes == sum(state_bytes("adamw", shape) for shape in shapes)
