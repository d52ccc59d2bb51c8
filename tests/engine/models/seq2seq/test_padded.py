from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from engine.cpu import placement
from engine.models.loss import keeping_token_losses
from engine.models.network import labels_of, prompts_of
from engine.models.on_device import find_head
from engine.models.seq2seq.padded import (
    ENCODED,
    IGNORED,
    PaddedNetwork,
    decoder_inputs,
    frozen_linear,
    pad_labels,
    pad_prompts,
)
from engine.process.world import World
from tests.engine.models.adapters import learning
from tests.engine.models.adapters import settings as adapter_settings
from tests.engine.models.families import FAMILIES as SMALL
from tests.engine.models.families import small
from tests.engine.models.small import (
    LENGTHS,
    exact,
    frozen,
    gradients_of,
    pair,
    plain_losses,
    random_rows,
    relative_error,
    small_t5,
    whole,
)
from tests.engine.training.test_causal_step import Held

FAMILIES = ["t5", "mt5", "bart"]


def net_of(family: str, tiny_bart: Path) -> Any:
    if family != "bart":
        return small_t5(family)
    net = AutoModelForSeq2SeqLM.from_pretrained(tiny_bart).eval()
    net.config.decoder_start_token_id = net.config.eos_token_id
    return net


@pytest.fixture(params=FAMILIES)
def net(request: pytest.FixtureRequest, tiny_bart: Path) -> Any:
    return net_of(request.param, tiny_bart)


@pytest.fixture(params=[True, False], ids=["separated", "whole"])
def network(request: pytest.FixtureRequest, net: Any) -> PaddedNetwork:
    return PaddedNetwork(net, find_head(net) if request.param else None, 7, autocast=False)


@pytest.mark.parametrize("lengths", [LENGTHS, ((3, 4),), ((1, 1), (6, 5))])
def test_loss_and_gradient_equal_those_row_by_row(network: PaddedNetwork, lengths: tuple[tuple[int, int], ...]) -> None:
    rows = random_rows(lengths)
    losses, expected = exact(network.model, rows)
    network.begin_step()
    with keeping_token_losses() as kept:
        loss = network.summed_loss(rows)
    alone = torch.cat(kept).double().split([len(row.label) for row in rows])
    assert [float(part.sum()) for part in alone] == pytest.approx(losses, rel=1e-5)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(sum(losses), rel=1e-6)
    assert network.row_losses(rows) == pytest.approx(losses, rel=1e-6)
    assert relative_error(whole(gradients_of(network.model, loss)), whole(expected)) <= 1e-5


def test_a_label_that_has_the_padding_token_counts(network: PaddedNetwork) -> None:
    rows = random_rows()
    rows[2].label[1] = int(network.model.config.pad_token_id)
    expected = exact(network.model, rows)[0]
    assert network.row_losses(rows) == pytest.approx(expected, rel=1e-6)


def test_losses_of_rows_have_no_graph(network: PaddedNetwork) -> None:
    network.row_losses(random_rows())
    assert all(parameter.grad is None for parameter in network.model.parameters())


def test_padding_is_counted(network: PaddedNetwork) -> None:
    assert network.padded(list(LENGTHS)) == len(LENGTHS) * (20 + 17)
    assert network.padded([(3, 4)]) == 7


def test_under_autocast_the_loss_is_close_but_not_equal(net: Any) -> None:
    """Near to the digits of bf16: its rounding is 2^-9 of each value."""
    rows = random_rows()
    losses = torch.tensor(exact(net, rows)[0])
    found = torch.tensor(PaddedNetwork(net, find_head(net), 7, autocast=True).row_losses(rows))
    error = relative_error(found, losses.double())
    assert 0 < error <= 2**-6
    assert error > relative_error(
        torch.tensor(PaddedNetwork(net, find_head(net), 7, autocast=False).row_losses(rows)), losses.double()
    )


def alone(net: Any, prompt: Tensor, longest: int) -> list[int]:
    """A greedy reply, each token found by running everything again."""
    reply = [int(net.config.decoder_start_token_id)]
    while len(reply) <= longest and (len(reply) == 1 or reply[-1] != net.config.eos_token_id):
        with torch.no_grad():
            logits = net(input_ids=prompt[None], decoder_input_ids=torch.tensor([reply]), use_cache=False).logits
        reply.append(int(logits[0, -1].argmax()))
    return reply


def test_replies_equal_those_row_by_row(network: PaddedNetwork) -> None:
    network.model.eval()
    prompts = prompts_of(random_rows())
    found = network.replies(prompts, 10)
    for prompt, reply in zip(prompts, found, strict=True):
        expected = alone(network.model, prompt, 10)
        assert reply[: len(expected)] == expected
        assert set(reply[len(expected) :]) <= {network.model.config.pad_token_id}


def test_a_reply_token_by_token_is_the_whole_reply(network: PaddedNetwork) -> None:
    network.model.eval()
    for prompt in prompts_of(random_rows()):
        expected = alone(network.model, prompt, 10)[1:]
        tokens = network.reply_tokens(prompt, lambda logits: int(logits.argmax()))
        assert list(islice(tokens, len(expected))) == expected


def test_prompts_are_padded_on_the_right_and_masked() -> None:
    ids, mask = pad_prompts([torch.tensor([5, 6, 0]), torch.tensor([7])], 9)
    assert ids.tolist() == [[5, 6, 0], [7, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_model_gets_padded_prompts_masked_and_labels_one_token_late(net: Any) -> None:
    given: dict[str, Tensor] = {}
    net.register_forward_pre_hook(lambda _net, _args, named: given.update(named), with_kwargs=True)
    pairs = [([5], [8, 9, 3]), ([6, 7], [4])]
    rows = [pair(torch.tensor(prompt), torch.tensor(label)) for prompt, label in pairs]
    losses = PaddedNetwork(net, None, 7, autocast=False).row_losses(rows)
    pad, start = net.config.pad_token_id, net.config.decoder_start_token_id
    assert given["input_ids"].tolist() == [[5, pad], [6, 7]]
    assert given["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert given["decoder_input_ids"].tolist() == [[start, 8, 9], [start, 4, pad]]
    assert losses == pytest.approx(exact(net, rows)[0], rel=1e-6)  # of four labels, without the two that are padding


def test_decoder_inputs_are_the_labels_shifted_by_one(net: Any) -> None:
    given = decoder_inputs(net, pad_labels([torch.tensor([8, 9, 3]), torch.tensor([4])]))
    start = net.config.decoder_start_token_id
    assert given[0].tolist() == [start, 8, 9]
    assert given[1, :2].tolist() == [start, 4]
    assert bool((given != IGNORED).all())


def test_a_model_without_its_own_shift_gets_the_usual_one(net: Any) -> None:
    labels = pad_labels(labels_of(random_rows()))

    class Bare:
        config = net.config

    kept = labels != IGNORED
    assert torch.equal(decoder_inputs(Bare(), labels)[kept], decoder_inputs(net, labels)[kept])


def test_dropout_is_the_models_own() -> None:
    net, rows = small_t5(dropout_rate=0.3, attn_implementation="eager"), random_rows(((6, 4),))
    network = PaddedNetwork(net, find_head(net), 7, autocast=False)
    torch.manual_seed(0)
    found = network.summed_loss(rows).item()
    torch.manual_seed(0)
    assert found == pytest.approx(plain_losses(net, rows)[0].item(), rel=1e-6)
    assert network.summed_loss(rows).item() != found


@pytest.mark.parametrize("settings", [{"lora_rank": 4}, {"freeze": "encoder", "lora_rank": 0}], ids=str)
def test_frozen_weights_held_in_bf16_alone_change_no_bit(net: Any, settings: dict[str, Any]) -> None:
    learning(net, adapter_settings(**settings))
    network, rows = PaddedNetwork(net, find_head(net), 7, autocast=True), random_rows()
    found = []
    for _ in range(2):
        loss = network.summed_loss(rows)
        loss.backward()
        found.append((loss.item(), network.row_losses(rows), [p.grad for p in net.parameters() if p.grad is not None]))
        net.zero_grad(set_to_none=True)
        network.drop_frozen_fp32()
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(one, other) for one, other in zip(found[0][2], found[1][2], strict=True))
    held = [layer.weight for layer in frozen_linear(net)]
    assert held
    assert all(weight.dtype == torch.bfloat16 for weight in held)
    assert net.get_input_embeddings().weight.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in net.parameters() if p.requires_grad)


def keeps(name: str) -> bool:
    """Whether the encoder's output is kept for a class of models."""
    return getattr(transformers, name).config_class.model_type in ENCODED


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", *filter(keeps, SMALL)])
def test_kept_encodings_give_the_same_loss_and_are_made_once(
    monkeypatch: pytest.MonkeyPatch, cpu_world: World, tmp_path: Path, name: str, bf16: bool
) -> None:
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    net = frozen(small_t5() if name.startswith("T5") else small(name), "encoder,embeddings")
    network, rows = PaddedNetwork(net, find_head(net), 7, autocast=bf16), random_rows(LENGTHS * 3)
    net.eval()
    store: Any = Held(rows)
    calls: list[int] = []
    encoder = net.get_encoder()
    encoder.register_forward_hook(lambda *_: calls.append(1))
    samples = [3, 0, 7, 12]
    expected = network.summed_loss([rows[sample] for sample in samples])
    gradients = gradients_of(net, expected)
    assert network.encodings_bytes(store) == store.tokens("") * net.config.hidden_size * (2 if bf16 else 4)
    assert network.keep_encodings(store, tmp_path / "encodings", cpu_world, writes=True)
    found = network.summed_loss([rows[sample] for sample in samples], samples)
    assert found.item() == pytest.approx(expected.item(), rel=1e-2 if bf16 else 1e-6)
    assert relative_error(whole(gradients_of(net, found)), whole(gradients)) <= (3e-2 if bf16 else 1e-5)
    before = len(calls)
    again = network.summed_loss([rows[sample] for sample in samples], samples)
    assert (again.item(), len(calls)) == (found.item(), before)


def test_prompts_whose_encodings_are_kept_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, cpu_world: World, tmp_path: Path, net: Any
) -> None:
    sent: list[int] = []

    def uploaded(tensors: list[Tensor], _device: torch.device) -> list[Tensor]:
        sent.append(sum(tensor.numel() for tensor in tensors))
        return placement.parted(placement.laid(tensors), tensors)

    monkeypatch.setattr(placement, "uploaded", uploaded)
    network, rows = PaddedNetwork(frozen(net, "encoder,embeddings"), find_head(net), 7, autocast=False), random_rows()
    net.eval()
    store: Any = Held(rows)
    batches = [([1, 0], [rows[1], rows[0]]), ([2], [rows[2]])]
    found = []
    for _ in range(2):
        network.send([some for _, some in batches], [samples for samples, _ in batches])
        found.append([network.summed_loss(some, samples).item() for samples, some in batches])
        assert network.keep_encodings(store, tmp_path / "encodings", cpu_world, writes=True)
    prompts = sum(len(some) * max(len(row.prompt) for row in some) for _, some in batches)
    assert sent[:2] == [sent[0], sent[0] - prompts]  # one copy a step
    assert len(sent) == 3  # and one to encode all of them
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_nothing_is_kept_of_an_encoder_that_learns(monkeypatch: pytest.MonkeyPatch, net: Any) -> None:
    network, store = PaddedNetwork(net, None, 7, autocast=False), Held(random_rows())
    held: Any = store
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    assert network.encodings_bytes(held) is None
    frozen(net, "encoder,embeddings")
    assert network.encodings_bytes(held) is not None
    monkeypatch.setattr(placement, "on_host", lambda _: True)
    assert network.encodings_bytes(held) is None  # it computes as before
