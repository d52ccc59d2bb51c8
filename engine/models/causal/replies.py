"""Greedy replies of a causal model by transformers' own generation, for models that are not computed by rows.

Prompts of one length are generated together, so that nothing is padded: not every model ignores padding on the left.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from engine.models.network import ends_of


def up_to_stop(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The ids up to the first stop token, which is included."""
    end = next((place for place, token in enumerate(ids, 1) if token in stops), len(ids))
    return list(ids[:end])


@torch.no_grad()
def generated(
    model: Any, prompts: Sequence[Tensor], longest: int, device: torch.device, *, together: bool = False
) -> list[list[int]]:
    """The most likely next token repeatedly, until a stop token or `longest` tokens; without the prompts.

    `together`: every rank computes until all of them are done, each with prompts of one length.
    """
    found: dict[int, list[int]] = {}
    stops, own = ends_of(model), model.generation_config
    settings = GenerationConfig(
        max_new_tokens=longest,
        do_sample=False,
        use_cache=True,
        eos_token_id=stops or None,
        pad_token_id=(stops or [0])[0],
    )
    # The model's own settings, such as a repetition penalty, would not be greedy.
    model.generation_config = settings
    try:
        for length in sorted({len(prompt) for prompt in prompts}, reverse=True):
            some = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
            ids = torch.stack([prompts[place] for place in some]).to(device)
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            whole = model.generate(**given, generation_config=settings, synced_gpus=together).tolist()
            found |= {place: up_to_stop(ids[length:], stops) for place, ids in zip(some, whole, strict=True)}
    finally:
        model.generation_config = own
    return [found[place] for place in range(len(prompts))]
