import copy
import functools
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from engine.cpu.ragged import Rows
from engine.cpu.weight_casts import Values
from engine.models.network import prompts_of
from engine.models.t5.decoding import BLOCK, FULL, Decoding, greedy
from tests.engine.models.small import packed, random_rows, small_t5

NEVER = 39  # an end token that no reply here has
LONGEST = 2 * BLOCK + 6
PROMPTS = prompts_of(random_rows([(n, 1) for n in (1, 9, 4, 15, 2, 6, 3, 1)]))
MODELS: dict[str, dict[str, Any]] = {
    "t5": {"num_layers": 1, "num_decoder_layers": 2},
    "gated": {"feed_forward_proj": "gated-gelu", "num_layers": 2, "num_decoder_layers": 1},
    "mt5": {"family": "mt5", "feed_forward_proj": "gated-silu", "num_layers": 1, "decoder_start_token_id": 5},
}


def talkative(name: str, ends: int | list[int]) -> Any:
    """A model whose replies continue and differ: its weights are large, its head is its own and never says NEVER."""
    net = small_t5(**MODELS[name], untied=True, initializer_factor=1.5, seed=2).eval()
    net.config.eos_token_id = ends
    with torch.no_grad():
        net.lm_head.weight[NEVER] = 0
    return net


@functools.cache
def endless(name: str) -> tuple[tuple[int, ...], ...]:
    """Greedy replies that nothing ends, each token found by running everything again in float64, row by row."""
    net = talkative(name, NEVER).double()
    replies = [[net.config.decoder_start_token_id] for _ in PROMPTS]
    with torch.no_grad():
        for prompt, reply in zip(PROMPTS, replies, strict=True):
            encoded = net.encoder(input_ids=prompt[None])
            while len(reply) <= LONGEST:
                before = torch.tensor([reply])
                logits = net(encoder_outputs=encoded, decoder_input_ids=before, use_cache=False).logits
                reply.append(int(logits[0, -1].argmax()))
    return tuple(map(tuple, replies))


def ended(reply: Sequence[int], ends: Sequence[int], longest: int) -> list[int]:
    """A reply up to its first end token, or to its greatest length."""
    for place, token in enumerate(reply[1 : longest + 1], start=1):
        if token in ends:
            return list(reply[: place + 1])
    return list(reply[: longest + 1])


def replies(name: str, ends: int | list[int], prompts: list[Tensor], longest: int = LONGEST) -> list[list[int]]:
    return packed(talkative(name, ends)).replies(prompts, longest)


def tokens_at(name: str, place: int, rows: Sequence[int]) -> list[int]:
    """The tokens of some replies at one place."""
    return sorted({endless(name)[row][place] for row in rows})


@pytest.mark.parametrize("name", MODELS)
def test_the_expected_replies_differ_in_length_and_end(name: str) -> None:
    assert len(set(endless(name))) == len(PROMPTS)
    assert sum(len(set(reply)) for reply in endless(name)) > 5 * len(PROMPTS)
    assert all(NEVER not in reply for reply in endless(name))


@pytest.mark.parametrize("longest", [1, 2, BLOCK, BLOCK + 1, LONGEST])
@pytest.mark.parametrize("name", MODELS)
def test_replies_equal_those_of_full_recomputation(name: str, longest: int) -> None:
    expected = [list(reply[: longest + 1]) for reply in endless(name)]
    assert replies(name, NEVER, PROMPTS, longest) == expected


@pytest.mark.parametrize("place", [1, 2, 5, 20, BLOCK + 1])
@pytest.mark.parametrize("rows", [(0,), (7,), (1, 4), (0, 1, 2, 3, 4, 5, 6), tuple(range(8))])
@pytest.mark.parametrize("name", MODELS)
def test_ended_rows_do_not_change_the_others(name: str, rows: tuple[int, ...], place: int) -> None:
    """What some rows say at one place ends every reply: a few rows go at once, most of them, or all."""
    ends = tokens_at(name, place, rows)
    expected = [ended(reply, ends, LONGEST) for reply in endless(name)]
    assert replies(name, ends, PROMPTS) == expected
    assert all(len(expected[row]) <= place + 1 for row in rows)


@pytest.mark.parametrize("name", MODELS)
def test_a_reply_token_by_token_is_the_whole_reply(name: str) -> None:
    network = packed(talkative(name, NEVER))
    for prompt, reply in zip(PROMPTS, endless(name), strict=True):
        tokens = network.reply_tokens(prompt, lambda logits: int(logits.argmax()))
        assert [reply[0], *islice(tokens, LONGEST)] == list(reply)


@pytest.mark.parametrize("name", MODELS)
def test_a_single_end_token_may_be_a_number(name: str) -> None:
    end = endless(name)[0][3]
    expected = [ended(reply, [end], LONGEST) for reply in endless(name)]
    assert replies(name, end, PROMPTS) == replies(name, [end], PROMPTS) == expected


@pytest.mark.parametrize("name", MODELS)
def test_a_row_gets_the_same_reply_alone_and_among_others(name: str) -> None:
    end = endless(name)[0][3]
    for row, prompt in enumerate(PROMPTS):
        assert replies(name, end, [prompt]) == [ended(endless(name)[row], [end], LONGEST)]


def forced(network: Any, net: Any, ids: Tensor) -> Tensor:
    """The decoder's output for given tokens (rows, tokens), found token by token, in float64."""
    with torch.no_grad():
        encoded, rows = network.encode(PROMPTS)
        decoding = Decoding(net, network._values, encoded, rows)
        steps = [decoding.hidden(net.shared(ids[:, at]).float(), at) for at in range(ids.shape[1])]
    return torch.stack(steps, dim=1).double()


def by_transformers(net: Any, ids: Tensor, *, autocast: bool) -> Tensor:
    """The same, all tokens at once and each row by itself."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = [
            net.decoder(input_ids=row[None], encoder_hidden_states=net.encoder(input_ids=prompt[None])[0])[0]
            for prompt, row in zip(PROMPTS, ids, strict=True)
        ]
    return torch.cat(found).double()


@pytest.mark.parametrize("name", MODELS)
def test_in_bf16_the_decoder_is_as_close_to_float64_as_under_autocast(name: str) -> None:
    net, ids = small_t5(**MODELS[name]).eval(), torch.tensor([reply[:20] for reply in endless(name)])
    expected = by_transformers(copy.deepcopy(net).double(), ids, autocast=False)
    ours = forced(packed(net, torch.bfloat16), net, ids) - expected
    theirs = by_transformers(net, ids, autocast=True) - expected
    assert 0 < float(ours.norm()) <= 1.5 * float(theirs.norm())


@pytest.mark.parametrize("name", MODELS)
def test_in_fp32_the_decoder_is_that_of_transformers(name: str) -> None:
    net, ids = small_t5(**MODELS[name]).eval(), torch.tensor([reply[: BLOCK + 8] for reply in endless(name)])
    expected = by_transformers(copy.deepcopy(net).double(), ids, autocast=False)
    torch.testing.assert_close(forced(packed(net), net, ids), expected, rtol=1e-5, atol=1e-5)


def test_bf16_replies_have_start_end_and_length() -> None:
    ends = tokens_at("t5", 3, range(4))
    found = packed(talkative("t5", ends), torch.bfloat16).replies(PROMPTS, 12)
    assert [ended(reply, ends, 12) for reply in found] == found
    assert {reply[0] for reply in found} == {0}
    assert all(len(reply) == 13 or reply[-1] in ends for reply in found)


def test_replies_leave_train_mode_and_build_no_graph() -> None:
    net = talkative("t5", NEVER).train()
    packed(net).replies(PROMPTS, 3)
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_caches_grow_with_the_reply_and_not_its_limit() -> None:
    net = talkative("t5", NEVER)
    decoding = Decoding(net, Values(torch.float32), torch.randn(3, 16), Rows((1, 2)))
    x = torch.randn(2, 16)
    with torch.no_grad():
        for at in range(BLOCK + 1):
            decoding.hidden(x, at)
            assert {cache.keys.shape[1] for cache in decoding._own} == {BLOCK if at < BLOCK else 2 * BLOCK}


# Which rows continue, by replies that are written beforehand.


class Scripted:
    """Says what is written for each row, and checks that each row gets its own last token."""

    def __init__(self, lines: list[list[int]]) -> None:
        self.lines, self.rows, self.sizes = lines, list(range(len(lines))), list[int]()

    def keep(self, rows: Tensor) -> None:
        """Continues with these."""
        self.rows = [self.rows[place] for place in rows.tolist()]

    def hidden(self, ids: Tensor, at: int) -> Tensor:
        """One-hot of what is written at this place."""
        self.sizes.append(len(ids))
        for row, token in zip(self.rows, ids.tolist(), strict=True):
            assert token == (self.lines[row][at - 1] if at else START)
        said = torch.tensor([self.lines[row][at] for row in self.rows])
        return torch.nn.functional.one_hot(said, 12)


START, ENDS = 11, [1, 2]


def script(lengths: Sequence[int], longest: int) -> list[list[int]]:
    """Lines that end after this many tokens; what follows the end must be ignored."""
    generator = torch.Generator().manual_seed(len(lengths))
    lines = torch.randint(3, 10, (len(lengths), longest), generator=generator).tolist()
    for row, length in enumerate(lengths):
        if length <= longest:
            lines[row][length - 1] = ENDS[row % 2]
    return cast(list[list[int]], lines)


def reported(lines: list[list[int]], longest: int) -> tuple[list[list[int]], Scripted]:
    scripted = Scripted(lines)
    found = greedy(cast(Any, scripted), lambda ids: ids, lambda hidden: hidden, START, ENDS, len(lines), longest)
    return found, scripted


@pytest.mark.parametrize(
    "lengths",
    [
        (1, 1, 1),
        (9, 9, 9),
        (3, 1, 2, 5, 4),
        (5, 4, 3, 2, 1),
        (1, 1, 1, 1, 1, 1, 1, 6),
        (6, 1, 1, 1, 1, 1, 1, 1),
        (2, 9, 2, 9, 2, 9, 2),
        (4,),
    ],
)
def test_each_row_gets_its_own_keys(lengths: tuple[int, ...]) -> None:
    lines = script(lengths, 8)
    found, _ = reported(lines, 8)
    assert found == [[START, *line[: min(length, 8)]] for line, length in zip(lines, lengths, strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_each_of_many_rows_gets_its_own_keys(seed: int) -> None:
    lengths = torch.randint(1, 30, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
    lines = script(lengths, 25)
    found, scripted = reported(lines, 25)
    assert found == [[START, *line[: min(length, 25)]] for line, length in zip(lines, lengths, strict=True)]
    for at, size in enumerate(scripted.sizes):
        left = sum(length > at for length in lengths)
        assert FULL * size <= left <= size


def test_nothing_is_computed_after_the_last_row_ended() -> None:
    assert reported(script((1, 3, 2), 8), 8)[1].sizes == [3, 2, 1]


def test_few_ended_rows_are_not_compacted() -> None:
    assert reported(script((1, 3, 3, 3, 3), 8), 8)[1].sizes == [5, 5, 5]
