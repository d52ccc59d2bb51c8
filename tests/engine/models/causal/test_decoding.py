"""Replies of rows of unequal length are those that transformers gives to each prompt alone."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from engine.models.causal import decoding
from engine.models.causal.replies import generated
from tests.engine.models.causal.exact import MODELS, drawn, network, random_prompts

LONGEST = 50  # more than a block, and more than a window
PROMPTS = random_prompts((4, 17, 9, 4, 1, 25))


def talkative(model_type: str) -> Any:
    """A model two of whose prompts have a token in their replies that ends them, sooner or later."""
    net = drawn(model_type, max_position_embeddings=96)
    net.generation_config, net.config.eos_token_id = GenerationConfig(), None
    whole = alone(net, PROMPTS)
    net.generation_config = GenerationConfig(eos_token_id=[whole[1][3], whole[3][30]], pad_token_id=0)
    return net


def alone(net: Any, prompts: list[Tensor], longest: int = LONGEST) -> list[list[int]]:
    return [generated(net, [prompt], longest, torch.device("cpu"))[0] for prompt in prompts]


@pytest.mark.parametrize("model_type", [*MODELS, "cohere"])
def test_replies_equal_transformers_to_each_prompt_alone(model_type: str) -> None:
    net = talkative(model_type)
    expected = alone(net, PROMPTS)
    assert network(net).replies(PROMPTS, LONGEST) == expected
    assert len({len(reply) for reply in expected}) > 1  # some leave the batch before others


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("tokens", [30, 2048])
def test_what_all_prompts_begin_with_changes_no_reply(
    model_type: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = talkative(model_type)
    prompts = [torch.cat([PROMPTS[5], prompt]) for prompt in PROMPTS]
    expected = alone(net, prompts, 20)
    monkeypatch.setattr(decoding, "PROMPT_TOKENS", tokens)
    assert network(net).replies(prompts, 20) == expected


def test_what_all_prompts_begin_with_is_computed_once() -> None:
    ready, computed = network(talkative("llama")), []
    within: decoding.Ahead = ready._ahead

    def counted(inputs: dict[str, Tensor], cache: decoding.Cache, places: Tensor) -> Tensor:
        computed.append(inputs["input_ids"].numel())
        return within(inputs, cache, places)

    prompts = [torch.cat([PROMPTS[5], prompt]) for prompt in PROMPTS]
    decoding.first_tokens(counted, decoding.Cache(list(map(len, prompts)), 1), prompts, decoding.shared_by(prompts))
    assert computed == [len(PROMPTS[5]), sum(map(len, PROMPTS))]


def test_a_prompt_is_never_shared_to_its_end() -> None:
    assert decoding.shared_by([PROMPTS[5], PROMPTS[5]]) == len(PROMPTS[5]) - 1
    assert decoding.shared_by([PROMPTS[5]]) == decoding.shared_by([PROMPTS[5], PROMPTS[5][:4]]) == 0


@pytest.mark.parametrize(("tokens", "size"), [(1, 1 << 29), (2048, 1), (2048, 10_000)])
def test_bounds_of_memory_do_not_change_replies(tokens: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = talkative("qwen3")
    expected = alone(net, PROMPTS, 12)
    monkeypatch.setattr(decoding, "PROMPT_TOKENS", tokens)
    monkeypatch.setattr(decoding, "CACHED", size)
    assert network(net).replies(PROMPTS, 12) == expected


def test_rows_decoded_together_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CACHED", 10 * 60)
    some = list(decoding._bounded([5, 1, 2, 0, 3, 4], PROMPTS, 18, 10))
    assert some == [[5], [1], [2, 0], [3, 4]]
    monkeypatch.setattr(decoding, "CACHED", 2 * 10 * 60)
    assert list(decoding._bounded([5, 1, 2, 0, 3, 4], PROMPTS, 18, 10)) == [[5, 1], [2, 0, 3, 4]]


def test_a_model_without_a_stop_token_replies_as_long_as_it_may() -> None:
    net = talkative("llama")
    net.generation_config, net.config.eos_token_id = GenerationConfig(), None
    assert [len(reply) for reply in network(net).replies(PROMPTS[:2], 7)] == [7, 7]


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("learns", [True, False], ids=["all learn", "frozen"])
def test_replies_in_bf16_end_as_they_should(model_type: str, learns: bool) -> None:
    net = talkative(model_type).requires_grad_(learns)
    ready = network(net, bf16=True)
    ready.drop_frozen_fp32()
    replies = ready.replies(PROMPTS, 12)
    ends = net.generation_config.eos_token_id
    assert all(len(reply) == 12 or reply[-1] in ends for reply in replies)
    assert max(map(len, replies)) == 12
