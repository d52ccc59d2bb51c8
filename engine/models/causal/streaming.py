"""One reply token by token, by transformers' own forward pass with the keys and values of what came before.

They are kept for the next prompt, which in a conversation begins with the same ids: only what is new is computed.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from engine.models.causal import attention
from engine.models.network import Choose, Tokens

CHUNK = 512  # tokens of a prompt that are computed at once


class Stream:
    """The ids whose keys and values are kept, and what continues them."""

    def __init__(self, model: Any, *, keeps: bool) -> None:
        self._model, self._keeps = model, keeps  # whether the model computes the logits of chosen places alone
        self._device = next(model.parameters()).device
        self._ids: list[int] = []
        self._cache: Any = None

    def tokens(self, prompt: Sequence[int], choose: Choose, computing: AbstractContextManager[Any]) -> Tokens:
        """The tokens after a prompt, each computed within `computing`."""
        own = self._model.config._attn_implementation
        if own == attention.NAME:  # which knows of no keys before a row
            self._model.set_attn_implementation("sdpa" if self._model._supports_sdpa else "eager")
        try:
            new = self._unknown(list(prompt))
            while True:
                with computing:
                    token = choose(self._logits(new))
                yield token
                new = [token]
        finally:
            self._model.set_attn_implementation(own)

    def _unknown(self, ids: list[int]) -> list[int]:
        """What has to be computed of a prompt, one token at least; the keys of everything else are then known."""
        shared = 0
        if self._cache is not None and all(type(layer) is DynamicLayer for layer in self._cache.layers):
            most = min(len(self._ids), len(ids) - 1)
            shared = next((at for at in range(most) if self._ids[at] != ids[at]), most)
        if shared:
            self._cache.crop(shared - len(self._ids))
        else:
            self._cache = None
        self._ids = ids[:shared]
        return ids[shared:]

    def _logits(self, new: Sequence[int]) -> Tensor:
        """The logits after some more tokens, (vocabulary,)."""
        ids, self._ids, cache = self._ids, [], self._cache  # unless all is computed nothing is known
        self._cache = None
        for start in range(0, len(new), CHUNK):
            part = list(new[start : start + CHUNK])
            ids = ids + part
            given = {
                "input_ids": torch.tensor([part], device=self._device),
                "attention_mask": torch.ones(1, len(ids), dtype=torch.int64, device=self._device),
            }
            found = self._model(
                **given, past_key_values=cache, use_cache=True, **({"logits_to_keep": 1} if self._keeps else {})
            )
            cache = found.past_key_values
        self._ids, self._cache = ids, cache
        logits: Tensor = found.logits[0, -1].float()
        return logits
