"""Adapters: which layers have one, what they compute, and what they leave as it is."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from engine.contract.config import override
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.data.token_store import Row
from engine.models import loading, lora
from engine.models.lora import Adapters
from engine.models.network import Network
from engine.models.on_device import find_head
from engine.models.registry import parts_of
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5
from tests.engine.models.adapters import adapted, filled, settings
from tests.engine.models.families import small
from tests.engine.models.small import plain_losses, random_rows, small_t5

T5_LAYERS = 32  # 4 of each of 6 attentions, 2 of each of 4 feed-forwards


def refusal(work: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as refused:
        work()
    return refused.value


class Whole:
    """A model in float64 whose adapted weights are formed as W + scale × B @ A, and what learns of it."""

    def __init__(self, net: Any, adapters: Adapters) -> None:
        self.net, self.config = net.double().requires_grad_(False), net.config
        self.factors = {name: p.detach().double().requires_grad_() for name, p in adapters.parameters().items()}
        weights = dict(self.net.named_parameters())
        self.weights = {
            f"{name}.weight": weights[f"{name}.weight"]
            + layer.adapter.scale * self.factors[f"{name}.lora_B"] @ self.factors[f"{name}.lora_A"]
            for name, layer in adapters.layers.items()
        }

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self.net, self.weights, (), inputs)

    def gradients(self, rows: Sequence[Row]) -> tuple[float, dict[str, Tensor]]:
        """The loss of some rows, each computed alone, and its gradient by A and by B."""
        loss = torch.stack(plain_losses(self, rows)).sum()
        loss.backward()
        return loss.item(), {name: factor.grad for name, factor in self.factors.items() if factor.grad is not None}


def network(net: Any, *, packed: bool) -> Network:
    found: Network = (
        PackedT5(net, torch.float32, 7) if packed else PaddedNetwork(net, find_head(net), 7, autocast=False)
    )
    found.begin_step()
    return found


MODELS: dict[str, tuple[Callable[[], Any], bool]] = {
    "t5": (small_t5, True),
    "t5 1.1": (lambda: small_t5("mt5", feed_forward_proj="gated-gelu"), True),
    "padded t5": (small_t5, False),
    "bart": (lambda: small("BartForConditionalGeneration", 40, dropout=0.0), False),
}


@pytest.mark.parametrize("cut", [(5,), (2, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_whole_weights_in_float64(name: str, cut: tuple[int, ...]) -> None:
    make, packed = MODELS[name]
    net, rows = make(), random_rows()
    before = copy.deepcopy(net)
    adapters = filled(adapted(net))
    expected, wanted = Whole(before, adapters).gradients(rows)
    computed, found = network(net, packed=packed), 0.0
    places = iter(rows)
    for size in cut:
        loss = computed.summed_loss([next(places) for _ in range(size)])
        loss.backward()
        found += loss.item()
    assert found == pytest.approx(expected, rel=1e-6)
    for key, parameter in adapters.parameters().items():
        assert parameter.grad is not None
        difference = (parameter.grad.double() - wanted[key]).norm() / wanted[key].norm()
        assert difference <= 1e-5, key


@pytest.mark.parametrize("name", MODELS)
def test_scores_and_replies_are_those_of_whole_weights(name: str) -> None:
    make, packed = MODELS[name]
    net, rows = make().eval(), random_rows()
    whole = copy.deepcopy(net)
    adapters = filled(adapted(net))
    for key, layer in adapters.layers.items():
        whole.get_submodule(key).weight.data += layer.change()
    found, expected = network(net, packed=packed), network(whole, packed=packed)
    assert found.row_losses(rows) == pytest.approx(expected.row_losses(rows), rel=1e-5)
    prompts = [torch.from_numpy(row.prompt) for row in rows]
    assert found.replies(prompts, 6) == expected.replies(prompts, 6)


def test_a_model_with_new_adapters_computes_what_it_did() -> None:
    net, rows = small_t5(), random_rows()
    before = network(net, packed=True).row_losses(rows)
    adapted(net)
    assert network(net, packed=True).row_losses(rows) == before


def test_only_adapters_learn_and_what_they_change_keeps_its_name() -> None:
    net = small_t5()
    names = set(net.state_dict())
    adapters = adapted(net)
    learning = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert len(adapters.layers) == T5_LAYERS
    assert learning == {f"{layer}.{part}" for layer in adapters.layers for part in ("lora_A", "lora_B")}
    assert set(net.state_dict()) == names | learning


def test_frozen_weights_get_no_gradient_and_keep_their_bits() -> None:
    net = small_t5()
    before = copy.deepcopy(net.state_dict())
    adapters = adapted(net)
    network(net, packed=True).summed_loss(random_rows()).backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)
    assert any(bool(layer.lora_B.any()) for layer in adapters.layers.values())


@pytest.mark.parametrize(
    ("parts", "freeze", "layers"),
    [
        ("all", "encoder", 20),
        ("q,v", "", 12),
        ("SelfAttention.q", "", 4),
        ("decoder.block.1", "", 10),
        ("decoder", "", 20),
        ("encoder, wo", "", 14),
        ("q", "encoder.block.0", 5),
        ("decoder.block.0-1", "decoder.block.0", 10),
    ],
)
def test_layers_are_named_by_their_last_part_or_their_first(parts: str, freeze: str, layers: int) -> None:
    assert len(adapted(small_t5(), lora_parts=parts, freeze=freeze).layers) == layers


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    message = refusal(lambda: adapted(small_t5(), lora_parts="q,q_proj")).message
    assert message.code == "lora_parts_unknown"
    assert message.args == {"name": "q_proj", "known": "q, k, v, o, wi, wo"}


@pytest.mark.parametrize("name", ["lm_head", "shared", "relative_attention_bias", "block.1", "decoder.block.10"])
def test_the_head_embeddings_and_parts_of_names_have_no_adapters(name: str) -> None:
    assert refusal(lambda: adapted(small_t5(untied=True), lora_parts=name)).message.code == "lora_parts_unknown"


def test_settings_that_leave_no_layer_are_refused() -> None:
    refused = refusal(lambda: adapted(small_t5(), lora_parts="encoder", freeze="encoder,embeddings"))
    assert (refused.message.code, refused.message.args["parts"]) == ("lora_nothing", "encoder")


def test_a_new_model_gets_no_adapter() -> None:
    assert refusal(lambda: adapted(small_t5(), pretrained_model="")).message.code == "lora_new_model"


def test_a_weight_that_is_used_twice_has_no_adapter() -> None:
    net = small_t5()
    net.decoder.block[1].layer[0].SelfAttention.q.weight = net.decoder.block[0].layer[0].SelfAttention.q.weight
    assert len(adapted(net).layers) == T5_LAYERS - 2


def test_a_layer_in_two_places_has_one_adapter_in_both() -> None:
    net = small_t5()
    net.decoder.block[1].layer[2] = net.decoder.block[0].layer[2]
    assert len(adapted(net).layers) == T5_LAYERS - 2
    first, second = (net.decoder.block[place].layer[2].DenseReluDense.wi for place in (0, 1))
    assert first is second
    assert first.lora_A.requires_grad


def test_what_is_drawn_depends_on_the_seed_and_the_layer_alone() -> None:
    net = small_t5()
    first, again, other = (adapted(copy.deepcopy(net), seed=seed) for seed in (1, 1, 2))
    alone = adapted(net, seed=1, lora_parts="wo")
    name = "decoder.block.1.layer.2.DenseReluDense.wo"
    drawn = first.layers[name].lora_A.detach()
    assert torch.equal(drawn, again.layers[name].lora_A)
    assert torch.equal(drawn, alone.layers[name].lora_A)
    assert not torch.equal(drawn, other.layers[name].lora_A)
    assert not torch.equal(drawn, first.layers[name.replace("block.1", "block.0")].lora_A)
    bound = 24**-0.5  # kaiming_uniform_ with a = √5, for a layer of 24 inputs
    assert bound / 2 < float(drawn.abs().max()) <= bound


@pytest.mark.parametrize(("scaling", "scale"), [("classic", 8.0), ("rank-stabilized", 16.0)])
def test_the_scale_is_that_of_the_settings(scaling: str, scale: float) -> None:
    adapters = adapted(small_t5(), lora_alpha=32.0, lora_scaling=scaling)
    assert {layer.adapter.scale for layer in adapters.layers.values()} == {scale}


def test_counts_and_a_rank_that_is_too_large_are_said() -> None:
    net = small_t5()
    total = sum(parameter.numel() for parameter in net.parameters())
    frozen, adapters = lora.prepare_learning(net, settings(lora_rank=12), parts_of(net))
    assert adapters is not None
    trained = sum(parameter.numel() for parameter in adapters.parameters().values())
    assert (frozen.parameters, frozen.trained) == (total, trained)
    counts, large = frozen.notices
    assert (counts.code, counts.args["rank"], counts.args["layers"]) == ("lora", 12, T5_LAYERS)
    assert (large.code, large.args["layers"], large.args["least"]) == ("lora_rank_large", 24, 12)


def test_a_linear_layer_that_is_stored_transposed_learns_too() -> None:
    torch.manual_seed(0)
    net = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32)).eval()
    before = copy.deepcopy(net)
    adapters = filled(lora.attach(net, settings(), {}))
    assert [name.rpartition(".")[2] for name in adapters.layers] == ["c_attn", "c_proj", "c_fc", "c_proj"]
    for name, layer in adapters.layers.items():
        before.get_submodule(name).weight.data += layer.change()
    ids = torch.arange(8)[None]
    torch.testing.assert_close(net(ids).logits, before(ids).logits, rtol=1e-5, atol=1e-5)
    net(ids).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in adapters.parameters().values())


def test_under_autocast_products_are_those_of_rounded_factors() -> None:
    layer = nn.Linear(24, 16)
    layer.weight.data = layer.weight.data.bfloat16().float()
    down = torch.randn(4, 24)
    found = lora.AdaptedLinear(layer, down, 2.0)
    found.lora_B.data.normal_()
    x = torch.randn(5, 24)
    with torch.autocast("cpu", torch.bfloat16):
        y = found(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), x @ (layer.weight + found.change()).t() + layer.bias, rtol=0.05, atol=0.3)
    y.sum().backward()
    assert found.lora_A.grad is not None
    assert found.lora_A.grad.dtype == torch.float32


def test_the_backward_pass_keeps_the_input_once_and_no_whole_weight() -> None:
    layer = lora.AdaptedLinear(nn.Linear(64, 48, bias=False).requires_grad_(False), torch.randn(2, 64), 2.0)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = torch.randn(100, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    new = [tensor for tensor in kept if tensor.data_ptr() not in (x.data_ptr(), layer.weight.data_ptr())]
    assert sum(tensor.numel() for tensor in new) <= 2 * (64 + 48) + 100 * 2


@pytest.mark.parametrize("change", [{"lora_rank": 8}, {"lora_parts": "q"}, {"lora_rank": 0}])
def test_values_of_other_adapters_are_refused(change: dict[str, Any]) -> None:
    state = adapted(small_t5()).parameters()
    other = lora.prepare_learning(net := small_t5(), settings(**change), parts_of(net))[1]
    assert refusal(lambda: lora.restore(other, state, "step-1")).message.code == "lora_other_adapter"


def test_values_of_a_checkpoint_are_taken_and_the_rest_is_the_model() -> None:
    saved = filled(adapted(net := small_t5()))
    weights, factors = lora.split(net.state_dict())
    assert factors.keys() == saved.parameters().keys()
    assert set(weights) == set(small_t5().state_dict())
    again = adapted(small_t5())
    lora.restore(again, net.state_dict(), "step-1")
    assert all(torch.equal(p, saved.parameters()[name]) for name, p in again.parameters().items())


def test_a_t5_of_modules_alone_has_adapters_of_the_same_names(
    tiny_t5: Path, tiny_settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    config = override(preset("sft-small").config, {**tiny_settings, "pretrained_model": str(tiny_t5)})[0]
    whole, modules = (loading.load_model(config, tokenizer, packed=packed) for packed in (False, True))
    assert type(whole) is not type(modules)
    assert adapted(whole).layers.keys() == adapted(modules).layers.keys()
