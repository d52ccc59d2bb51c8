from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from engine.models.causal.replies import generated, up_to_stop
from engine.models.network import ends_of
from tests.engine.models.causal.exact import drawn, random_prompts

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("own", "config", "stops"), [(None, None, []), (None, 7, [7]), (3, 7, [3]), ([3, 5], 7, [3, 5])]
)
def test_every_stop_token_of_the_generation_settings_counts(own: Any, config: Any, stops: list[int]) -> None:
    net = drawn("llama")
    net.config.eos_token_id, net.generation_config = config, GenerationConfig(eos_token_id=own)
    assert ends_of(net) == stops


def test_a_reply_ends_with_its_first_stop_token() -> None:
    assert up_to_stop([4, 3, 5, 3], [5, 3]) == [4, 3]
    assert up_to_stop([4, 4], [5]) == [4, 4]


def test_padded_models_reply_as_they_do_to_each_prompt_alone() -> None:
    net = drawn("bloom")
    prompts = random_prompts((4, 9, 4, 1))
    net.generation_config, net.config.eos_token_id = GenerationConfig(), None
    stops = [generated(net, prompts[:1], 12, CPU)[0][3], 39]
    net.generation_config = GenerationConfig(eos_token_id=stops, repetition_penalty=9.0)
    found = generated(net, prompts, 12, CPU)
    assert found == [generated(net, [prompt], 12, CPU)[0] for prompt in prompts]
    assert net.generation_config.repetition_penalty == 9.0
    assert len({len(reply) for reply in found}) > 1
