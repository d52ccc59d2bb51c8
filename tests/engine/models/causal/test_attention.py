"""What a token of a row attends to: its own row, as far as the model's rule lets it."""

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from engine.cpu.ragged import Rows
from engine.models.causal.attention import NAME, EndToEnd, UnsupportedError, end_to_end
from tests.engine.models.causal.exact import drawn

ROWS = Rows((4, 9, 1))


def by_the_book(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """The attention of all rows at once by the mask of every pair of tokens, (1, tokens, heads, width)."""
    key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    row = torch.repeat_interleave(torch.arange(len(ROWS.lengths)), torch.tensor(ROWS.lengths))
    place = torch.arange(ROWS.tokens)
    behind = place[:, None] - place[None]
    seen = (row[:, None] == row[None]) & (behind >= 0) & (behind < window)
    scores = (query @ key.transpose(2, 3) / 2).masked_fill(~seen, float("-inf"))
    return (scores.softmax(dim=3) @ value).transpose(1, 2)


@pytest.mark.parametrize("window", [3, 8, 100])
def test_no_token_sees_another_row_nor_beyond_its_window(window: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, ROWS.tokens, 4, dtype=torch.float64) for heads in (4, 2, 2))
    mask = EndToEnd(ROWS).mask(lambda here, there: (there <= here) & (there > here - window))
    function = AttentionInterface()[NAME]
    found, _ = function(nn.Module(), query, key, value, mask, scaling=0.5)
    torch.testing.assert_close(found, by_the_book(query, key, value, window))


def test_positions_begin_again_with_each_row() -> None:
    given = end_to_end(torch.arange(5), Rows((3, 2)))
    assert given["position_ids"].tolist() == [[0, 1, 2, 0, 1]]


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"softcap": 5.0}, {"s_aux": torch.ones(1)}])
def test_what_is_not_computed_is_refused(more: dict[str, object]) -> None:
    part = torch.randn(1, 2, ROWS.tokens, 4)
    with pytest.raises(UnsupportedError, match=next(iter(more))):
        AttentionInterface()[NAME](nn.Module(), part, part, part, EndToEnd(ROWS).mask(None), **more)


def test_without_rows_under_way_only_a_batch_of_one_is_computed() -> None:
    net, ids = drawn("llama"), torch.arange(3, 11)[None]
    expected = net(input_ids=ids).logits
    net.set_attn_implementation(NAME)
    torch.testing.assert_close(net(input_ids=ids).logits, expected)
    with pytest.raises(UnsupportedError):
        net(input_ids=ids.expand(2, 8))
