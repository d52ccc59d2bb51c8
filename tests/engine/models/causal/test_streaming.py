"""A reply token by token is the whole reply, whatever of its prompt was computed before."""

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from engine.models.causal import attention, streaming
from engine.models.causal.replies import generated
from engine.models.network import Choose
from tests.engine.models.causal.exact import MODELS, drawn, network, random_prompts

FIRST, OTHER = random_prompts((21, 17))
LONGEST = 12


def greedy(logits: Tensor) -> int:
    """The likeliest token."""
    return int(logits.argmax())


def endless(model_type: str) -> Any:
    """A model without a token that ends its replies."""
    net = drawn(model_type, max_position_embeddings=96)
    net.generation_config, net.config.eos_token_id = GenerationConfig(), None
    return net


def alone(net: Any, prompt: Tensor) -> list[int]:
    """The reply that transformers gives to a prompt."""
    return generated(net, [prompt], LONGEST, torch.device("cpu"))[0]


def reply(found: Any, prompt: Tensor, choose: Choose = greedy) -> list[int]:
    """The first tokens of a stream, which is then closed."""
    tokens = found.reply_tokens(prompt, choose)
    some = list(islice(tokens, LONGEST))
    tokens.close()
    return some


@pytest.mark.parametrize("model_type", [*MODELS, "cohere", "gemma2"])
def test_a_conversation_has_the_replies_of_its_whole_prompts(model_type: str) -> None:
    """Turns are added, taken back, and changed: what is kept of earlier ones changes no reply."""
    net = endless(model_type)
    first = alone(net, FIRST)
    longer = torch.cat([FIRST, torch.tensor(first), OTHER[:5]])
    prompts = [FIRST, longer, longer[:-3], torch.cat([longer[:-2], OTHER]), OTHER, FIRST, FIRST[:1]]
    expected = [alone(net, prompt) for prompt in prompts]
    found = network(net)
    assert [reply(found, prompt) for prompt in prompts] == expected


def test_only_what_is_new_of_a_prompt_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = endless("llama")
    found, computed = network(net), list[int]()
    own = net.forward

    def forward(*, input_ids: Tensor, **more: Any) -> Any:
        computed.append(input_ids.shape[1])
        return own(input_ids=input_ids, **more)

    monkeypatch.setattr(net, "forward", forward)
    first = reply(found, FIRST)
    assert computed == [len(FIRST), *[1] * (LONGEST - 1)]
    computed.clear()
    reply(found, torch.cat([FIRST, torch.tensor(first), OTHER[:5]]))
    assert computed[0] == 5 + 1  # the last token of a reply was never given to the model
    computed.clear()
    reply(found, FIRST)
    assert computed[0] == 1


@pytest.mark.parametrize("chunk", [1, 5, 21])
def test_the_parts_of_a_long_prompt_do_not_matter(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    net = endless("qwen3")
    expected = alone(net, FIRST)
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    assert reply(network(net), FIRST) == expected


def test_a_failure_on_the_way_leaves_nothing_half_known(monkeypatch: pytest.MonkeyPatch) -> None:
    net = endless("llama")
    expected, found = alone(net, FIRST), network(net)
    reply(found, OTHER)
    with monkeypatch.context() as patch:

        def failing(*_: object, **__: object) -> Any:
            raise MemoryError

        patch.setattr(net, "forward", failing)
        with pytest.raises(MemoryError):
            reply(found, FIRST)
    assert reply(found, FIRST) == expected


def test_the_attention_of_the_model_is_as_before_when_a_reply_has_ended() -> None:
    found = network(endless("phi"))
    before = found.model.config._attn_implementation
    assert before == attention.NAME
    reply(found, FIRST)
    assert found.model.config._attn_implementation == before


def test_tokens_are_chosen_by_who_asks_for_them() -> None:
    found = network(endless("llama"))
    seen = list[Tensor]()

    def seven(logits: Tensor) -> int:
        seen.append(logits)
        return 7

    assert reply(found, FIRST, seven) == [7] * LONGEST
    assert {(logits.dtype, logits.shape) for logits in seen} == {(torch.float32, (found.model.config.vocab_size,))}
