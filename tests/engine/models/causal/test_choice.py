from engine.models.causal.packed import PackedCausal
from engine.models.causal.padded import PaddedCausal
from tests.engine.models.causal.exact import drawn, network


def test_a_model_that_must_be_padded_says_why() -> None:
    assert (type(network(drawn("llama"))), network(drawn("llama")).notices) == (PackedCausal, ())
    found = network(drawn("gemma2", head_dim=8))
    assert isinstance(found, PaddedCausal)
    assert "Gemma2ForCausalLM caps its attention scores" in found.notices[0].text()
    assert "Gemma2ForCausalLM" in found.notices[0].text("zh")
