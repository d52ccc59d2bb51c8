from engine.models.causal.llama import LlamaNetwork
from engine.models.causal.packed import PackedCausal
from engine.models.causal.padded import PaddedCausal
from tests.engine.models.causal.exact import drawn, network


def test_models_are_computed_end_to_end_the_fastest_way_there_is() -> None:
    for model_type, kind in (("llama", LlamaNetwork), ("phi", PackedCausal)):
        found = network(drawn(model_type))
        assert (type(found), found.notices) == (kind, ())


def test_a_model_that_must_be_padded_says_why() -> None:
    found = network(drawn("gemma2", head_dim=8))
    assert isinstance(found, PaddedCausal)
    assert "Gemma2ForCausalLM caps its attention scores" in found.notices[0].text()
    assert "Gemma2ForCausalLM" in found.notices[0].text("zh")
