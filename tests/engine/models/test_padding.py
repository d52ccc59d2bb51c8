import pytest
import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, bidirectional_mask_function, sdpa_mask

from engine.models.padding import rows_of


def made(function: object, lengths: list[int], *, causal: bool) -> Tensor | None:
    padding = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    rule = {} if causal else {"mask_function": bidirectional_mask_function}
    found: Tensor | None = function(  # type: ignore[operator]
        batch_size=len(lengths),
        q_length=max(lengths),
        kv_length=max(lengths),
        attention_mask=padding,
        allow_is_causal_skip=causal,
        allow_is_bidirectional_skip=not causal,
        **rule,
    )
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [[3, 3], [5, 2, 4], [1]])
def test_masks_of_known_lengths_are_those_of_transformers(lengths: list[int], causal: bool) -> None:
    ours = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    expected = made(sdpa_mask, lengths, causal=causal)
    with rows_of(lengths):
        found = made(ours, lengths, causal=causal)
    for mask in (found, made(ours, lengths, causal=causal)):
        assert (mask is None) == (expected is None) == (len(set(lengths)) == 1)
        assert mask is None or expected is None or torch.equal(mask, expected)
