from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.contract.messages import InputError
from engine.models import freezing
from engine.models.registry import parts_of
from tests.engine.models.conftest import Load


def refusal(work: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as refused:
        work()
    return refused.value


def frozen_names(net: nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if not parameter.requires_grad}


def names_beginning(net: nn.Module, *beginnings: str) -> set[str]:
    return {name for name, _ in net.named_parameters() if name.startswith(beginnings)}


@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        ("", ()),
        ("encoder", ("encoder.",)),
        ("decoder", ("decoder.",)),
        ("embeddings", ("shared.",)),
        ("encoder,embeddings", ("encoder.", "shared.")),
        (" encoder , decoder.block.1.layer.2 ,", ("encoder.", "decoder.block.1.layer.2.")),
    ],
)
def test_the_parts_named_do_not_learn(load: Load, tiny_t5: Path, names: str, frozen: tuple[str, ...]) -> None:
    net = load(tiny_t5)
    result = freezing.freeze(net, names, parts_of(net))
    assert frozen_names(net) == (names_beginning(net, *frozen) if frozen else set())
    assert result.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert result.trained == sum(parameter.numel() for parameter in freezing.trained_parameters(net).values())


def test_the_parts_of_bart_have_the_same_names(load: Load, tiny_bart: Path) -> None:
    net = load(tiny_bart)
    freezing.freeze(net, "encoder,embeddings", parts_of(net))
    assert frozen_names(net) == names_beginning(net, "model.encoder.", "model.shared.")


def test_a_part_that_does_not_exist_is_refused(load: Load, tiny_t5: Path) -> None:
    net = load(tiny_t5)
    message = refusal(lambda: freezing.freeze(net, "encoder,attention", parts_of(net))).message
    assert (message.code, message.args["name"]) == ("freeze_unknown", "attention")
    assert message.args["known"] == "embeddings, encoder, decoder"


def test_freezing_everything_is_refused(load: Load, tiny_t5: Path) -> None:
    net = load(tiny_t5)
    refused = refusal(lambda: freezing.freeze(net, "encoder,decoder,embeddings", parts_of(net)))
    assert refused.message.code == "nothing_trainable"


@pytest.mark.parametrize(
    ("name", "names", "reported"),
    [
        ("tiny_t5", "embeddings", True),
        ("tiny_bart", "embeddings", True),
        ("tiny_t5", "encoder", False),
        ("tiny_mt5", "embeddings", False),
        ("untied_t5", "embeddings", False),
    ],
)
def test_freezing_a_shared_head_is_reported(
    load: Load, name: str, names: str, reported: bool, request: pytest.FixtureRequest
) -> None:
    net = load(request.getfixturevalue(name))
    notices = freezing.freeze(net, names, parts_of(net)).notices
    assert [notice.code for notice in notices] == ["trainable", "head_frozen"] if reported else ["trainable"]


@pytest.mark.parametrize("name", ["tiny_t5", "tiny_bart"])
def test_frozen_parts_have_no_dropout_and_the_others_do(load: Load, name: str, request: pytest.FixtureRequest) -> None:
    net = load(request.getfixturevalue(name))
    freezing.freeze(net, "encoder,embeddings", parts_of(net))
    net.eval()
    freezing.set_training_mode(net)
    assert not any(module.training for module in net.get_encoder().modules())
    layers = net.decoder.block if name == "tiny_t5" else net.model.decoder.layers
    assert all(module.training for layer in layers for module in layer.modules())
    ids = torch.tensor([[5, 6, 7, 1]])
    first, second = (net(input_ids=ids, labels=ids) for _ in range(2))
    assert torch.equal(first.encoder_last_hidden_state, second.encoder_last_hidden_state)
    assert not torch.equal(first.logits, second.logits)


def test_without_freezing_the_whole_model_is_in_train_mode(load: Load, tiny_t5: Path) -> None:
    net = load(tiny_t5).eval()
    freezing.set_training_mode(net)
    assert all(module.training for module in net.modules())
