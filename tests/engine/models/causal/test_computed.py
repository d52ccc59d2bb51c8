import pytest
import torch

from engine.models.causal.computed import held_in_bf16, hold
from tests.engine.models.causal.exact import apart, drawn, exact, network, random_rows


def test_what_a_model_keeps_in_fp32_stays_so() -> None:
    net = drawn("llama").requires_grad_(False)
    net._keep_in_fp32_modules_strict = {"norm"}
    held = {id(parameter) for parameter in held_in_bf16(net)}
    assert {name for name, p in net.named_parameters() if id(p) not in held} == {"model.norm.weight"}


def test_norms_stay_fp32_where_activations_are() -> None:
    net = drawn("gpt2").to(torch.bfloat16).requires_grad_(False)
    net.get_input_embeddings().weight.requires_grad_(True)
    hold(net, bf16=True)
    assert {p.dtype for p in net.parameters() if p.dim() == 1} == {torch.float32}
    assert net.transformer.h[0].mlp.c_fc.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("model_type", ["llama", "phi", "gemma2"])  # by layers of our own, end to end, padded
def test_the_token_that_pads_learns_where_rows_have_it(model_type: str) -> None:
    rows = random_rows()
    net = drawn(model_type, pad_token_id=int(rows[1].ids[0]), tie_word_embeddings=False)
    losses, expected = exact(drawn(model_type, pad_token_id=None, tie_word_embeddings=False), rows)
    found = network(net)
    found.summed_loss(rows).backward()
    assert apart({name: p.grad for name, p in net.named_parameters() if p.grad is not None}, expected) <= 1e-5
    assert found.row_losses(rows) == pytest.approx(losses, rel=1e-5)
