"""Which parts of a model are divided one by one."""

import contextlib

import torch
from torch import nn

from engine.models.sharding import Exchange, Exchanges, layers_of
from engine.process.heartbeat import RankStatus
from tests.engine.models.causal.small import model


def test_every_layer_of_a_model_is_divided_alone() -> None:
    net = model("llama")
    assert list(layers_of(net)) == list(net.model.layers)


def test_lists_within_a_layer_are_divided_with_it() -> None:
    inner = nn.ModuleList([nn.Linear(2, 2)])
    layer = nn.Module()
    layer.experts = inner
    net = nn.Module()
    net.layers = nn.ModuleList([layer])
    assert list(layers_of(net)) == [layer]


def test_layers_that_share_a_weight_are_not_divided_alone() -> None:
    net = nn.Module()
    net.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    net.layers[1].weight = net.layers[0].weight
    assert list(layers_of(net)) == [net.layers[2]]


def test_a_rank_that_gave_up_a_pass_skips_what_the_others_have_done() -> None:
    exchanges, done = Exchanges(), list[str]()

    def work(found: torch.Tensor, _given: torch.Tensor, *, group: str) -> None:
        done.append(group)
        found.fill_(1.0)

    exchange, found = Exchange(exchanges, work, contextlib.nullcontext), torch.full((2,), 5.0)
    exchange(found, found, "first")
    exchanges.skipped = exchanges.done
    exchange(found, found, "first")
    assert found.tolist() == [0.0, 0.0]
    exchange(found, found, "second")
    assert found.tolist() == [1.0, 1.0]
    assert done == ["first", "second"]


def test_a_rank_in_an_exchange_waits_for_others_and_else_works() -> None:
    status, seen = RankStatus(), list[bool]()

    def work(_found: torch.Tensor, _given: torch.Tensor, *, group: str) -> str:
        seen.append(status.waiting)
        return group

    exchange, found = Exchange(Exchanges(), work, status.waiting_for_others), torch.zeros(2)
    assert exchange(found, found, "group") == "group"
    assert (seen, status.waiting, status.progress) == ([True], False, 1)
