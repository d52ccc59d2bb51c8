from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM

from engine.models.loss import HEAD_ROWS, Head, logits_of, summed_loss, summed_loss_of_logits, token_losses
from engine.models.on_device import find_head

N, WIDTH, VOCABULARY = 13, 8, 29
CHUNKS = [1, 2, 5, N, 64]


def parts(*, bias: bool, scale: float = 1.0) -> tuple[Tensor, Head, Tensor]:
    torch.manual_seed(0)
    linear = nn.Linear(WIDTH, VOCABULARY, bias=bias)
    hidden = (scale * torch.randn(N, WIDTH)).requires_grad_()
    return hidden, Head(linear, linear.weight, (linear.bias,) if bias else ()), torch.randint(VOCABULARY, (N,))


def gradients(loss: Tensor, hidden: Tensor, head: Head) -> list[Tensor]:
    wanted = [tensor for tensor in (hidden, head.weight, *head.biases) if tensor.requires_grad]
    return list(torch.autograd.grad(loss, wanted))


def plain_loss(hidden: Tensor, head: Head, labels: Tensor) -> Tensor:
    """In float64, all logits at once."""
    bias = None if head.bias is None else head.bias.double()
    return functional.cross_entropy(
        functional.linear(hidden.double(), head.weight.double(), bias), labels, reduction="sum"
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_chunk_size_does_not_change_loss_and_gradients(chunk: int, bias: bool) -> None:
    hidden, head, labels = parts(bias=bias)
    plain = plain_loss(hidden, head, labels)
    loss = summed_loss(hidden, head, labels, chunk)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    # As a step does it, divided by its label tokens: the gradient was formed before the division was known.
    found, expected = gradients(loss / N, hidden, head), gradients(plain / N, hidden, head)
    assert len(found) == 2 + bias
    assert [relative_error(ours, theirs) < 1e-6 for ours, theirs in zip(found, expected, strict=True)] == [True] * len(
        found
    )


@pytest.mark.usefixtures("way")
def test_whole_logits_give_the_same_loss_and_gradients() -> None:
    hidden, head, labels = parts(bias=True)
    plain, loss = plain_loss(hidden, head, labels), summed_loss_of_logits(head.module(hidden), labels)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    found, expected = gradients(loss / N, hidden, head), gradients(plain / N, hidden, head)
    assert all(relative_error(ours, theirs) < 1e-6 for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("chunk", CHUNKS)
def test_each_token_has_its_own_loss(chunk: int) -> None:
    hidden, head, labels = parts(bias=True)
    expected = functional.cross_entropy(head.module(hidden), labels, reduction="none")
    torch.testing.assert_close(token_losses(hidden, head, labels, chunk), expected.detach(), rtol=1e-6, atol=1e-6)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, labels = parts(bias=True)
    head.module.requires_grad_(False)
    summed_loss(hidden, head, labels, 4).backward()
    assert head.weight.grad is None
    assert head.bias is not None
    assert head.bias.grad is None
    assert hidden.grad is not None


def test_only_the_head_learns() -> None:
    hidden, head, labels = parts(bias=False)
    summed_loss(hidden.detach(), head, labels, 4).backward()
    (expected,) = torch.autograd.grad(plain_loss(hidden.detach(), head, labels), [head.weight])
    assert head.weight.grad is not None
    assert relative_error(head.weight.grad, expected) < 1e-6


@pytest.mark.usefixtures("way")
def test_huge_logits_do_not_overflow() -> None:
    hidden, head, labels = parts(bias=True, scale=1e5)
    loss = summed_loss(hidden, head, labels, 4)
    assert loss.item() == pytest.approx(plain_loss(hidden, head, labels).item(), rel=1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients(loss, hidden, head))


@pytest.mark.usefixtures("way")
def test_a_nearly_impossible_label_has_its_exact_loss() -> None:
    gaps = torch.tensor([0.5, 30.0, 59.9, 60.1, 88.0, 104.0, 500.0])
    hidden = torch.stack([gaps, torch.zeros_like(gaps)], dim=1).requires_grad_()
    weight = torch.eye(2)
    head = Head(nn.Linear(2, 2, bias=False), weight, ())
    for place, gap in enumerate(gaps.double()):
        loss = summed_loss(hidden[place : place + 1], head, torch.tensor([1]), 4)
        assert loss.item() == pytest.approx((gap + torch.exp(-gap).log1p()).item(), rel=1e-6)
    summed_loss(hidden, head, torch.ones(len(gaps), dtype=torch.int64), 4).backward()
    assert hidden.grad is not None
    expected = torch.sigmoid(gaps.double())[:, None] * torch.tensor([1.0, -1.0]).double()
    torch.testing.assert_close(hidden.grad.double(), expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("chunk", [1, 5])
@pytest.mark.parametrize("loss_of", [summed_loss, token_losses])
def test_only_one_chunk_of_logits_is_held(monkeypatch: pytest.MonkeyPatch, loss_of: Any, chunk: int) -> None:
    hidden, head, labels = parts(bias=False)
    rows: list[int] = []

    def counted(part: Tensor, *rest: Any) -> Tensor:
        rows.append(len(part))
        return logits_of(part, *rest)

    monkeypatch.setattr("engine.models.loss.logits_of", counted)
    loss_of(hidden, head, labels, chunk)
    assert sum(rows) == N
    assert max(rows) == chunk


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("words", [7, HEAD_ROWS, 2 * HEAD_ROWS + 1])
def test_logits_are_those_of_one_linear_map(kind: torch.dtype, biased: bool, words: int) -> None:
    hidden, weight = torch.randn(5, 16, dtype=kind), torch.randn(words, 16, dtype=kind)
    bias = torch.randn(words, dtype=kind) if biased else None
    torch.testing.assert_close(logits_of(hidden, weight, bias), functional.linear(hidden, weight, bias))


def test_under_autocast_the_logits_of_fp32_are_bf16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert logits_of(torch.randn(5, 16), torch.randn(7, 16)).dtype is torch.bfloat16


def test_under_autocast_the_logits_are_bf16_and_the_loss_is_not() -> None:
    hidden, head, labels = parts(bias=True)
    assert head.bias is not None
    rounded = functional.linear(hidden.bfloat16(), head.weight.bfloat16(), head.bias.bfloat16())
    expected = functional.cross_entropy(rounded.double(), labels, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16):
        loss = summed_loss(hidden, head, labels, N)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert [gradient.dtype for gradient in gradients(loss, hidden, head)] == [torch.float32] * 3


def model_and_inputs(path: Path) -> tuple[Any, dict[str, Tensor]]:
    model = AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    ids = torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]])
    return model, {"input_ids": ids, "attention_mask": (ids != 0).long(), "decoder_input_ids": ids[:, :3]}


@pytest.mark.parametrize("name", ["tiny_t5", "tiny_bart"])
def test_the_head_gives_the_models_logits(name: str, request: pytest.FixtureRequest) -> None:
    model, inputs = model_and_inputs(request.getfixturevalue(name))
    head = find_head(model)
    assert head is not None
    ours = functional.linear(head.hidden(model, inputs), head.weight, head.bias)
    torch.testing.assert_close(ours, model(**inputs).logits)


def test_the_logits_bias_of_bart_counts(tiny_bart: Path) -> None:
    model, _ = model_and_inputs(tiny_bart)
    head = find_head(model)
    assert head is not None
    assert head.bias is not None
    assert torch.equal(head.bias, model.final_logits_bias.flatten())
    assert head.bias.abs().max() > 1


def test_a_model_that_changes_its_logits_keeps_its_own_head(tiny_t5: Path) -> None:
    model, _ = model_and_inputs(tiny_t5)

    def cap(_: nn.Module, __: Any, output: Any) -> Any:
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    model.register_forward_hook(cap)
    assert find_head(model) is None


def test_a_head_of_several_layers_is_not_separated(tiny_t5: Path) -> None:
    model, _ = model_and_inputs(tiny_t5)
    model.lm_head = nn.Sequential(model.lm_head, nn.Identity())
    assert find_head(model) is None


@pytest.mark.parametrize("training", [True, False])
def test_looking_for_the_head_leaves_the_model_as_it_was(tiny_t5: Path, training: bool) -> None:
    model, inputs = model_and_inputs(tiny_t5)
    model.train(training)
    find_head(model)
    assert model.training is training
    assert model(**inputs).logits.shape == (2, 3, model.config.vocab_size)


def test_a_trained_bias_is_used_with_its_current_value() -> None:
    hidden, head, labels = parts(bias=True)
    before = token_losses(hidden, head, labels, 4)
    with torch.no_grad():
        head.module.bias += torch.randn(VOCABULARY)  # type: ignore[operator]
    expected = functional.cross_entropy(functional.linear(hidden, head.weight, head.bias), labels, reduction="none")
    assert torch.allclose(token_losses(hidden, head, labels, 4), expected, atol=1e-6)
    assert not torch.allclose(before, expected, atol=1e-3)
