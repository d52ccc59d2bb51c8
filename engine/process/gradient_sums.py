"""The sums of gradients over ranks, a bucket at a time: after the last backward pass, or while it is under way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.contract.traffic import BUCKET_ELEMENTS

UNDER_WAY = 4  # buckets at once, each a copy of its gradients

Bucket = list[nn.Parameter]
Waiting = Callable[[], AbstractContextManager[None]]  # what waiting for other ranks is wrapped in


def buckets_of(parameters: Iterable[nn.Parameter]) -> list[Bucket]:
    """Parameters in order, cut where a bucket is full: the same on every rank."""
    found: list[Bucket] = [[]]
    size = 0
    for parameter in parameters:
        if size >= BUCKET_ELEMENTS:
            found.append([])
            size = 0
        found[-1].append(parameter)
        size += parameter.numel()
    return [bucket for bucket in found if bucket]


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sums every parameter's gradient over all ranks, in place; a missing gradient counts as zero."""
    for bucket in buckets_of(parameters):
        _Sum(bucket, ahead=False).end()


class _Sum:
    """The sum of one bucket; `ahead`: this process computes on until `end`."""

    def __init__(self, bucket: Bucket, *, ahead: bool) -> None:
        self._gradients: list[Tensor] = []
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._gradients.append(parameter.grad)
        self._flat = torch.cat([gradient.flatten() for gradient in self._gradients])
        self._work: Any = None
        if ahead:
            self._work = dist.all_reduce(self._flat, async_op=True)
        else:
            dist.all_reduce(self._flat)

    def end(self) -> None:
        """Waits, and puts the sum in the place of the gradients."""
        if self._work is not None:
            self._work.wait()
        parts = self._flat.split([gradient.numel() for gradient in self._gradients])
        for gradient, part in zip(self._gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


class SumsAhead:
    """The sums of a step, of which most begin while its last backward pass still computes other gradients.

    They have the bits of `sum_gradients`. All ranks must sum in one order: from the last bucket to the first, as a
    backward pass comes to them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], waiting: Waiting) -> None:
        self._buckets = buckets_of(parameters)  # those to come, the next of them last
        self._missing = [{id(parameter) for parameter in bucket} for bucket in self._buckets]
        self._bucket_of = {key: number for number, keys in enumerate(self._missing) for key in keys}
        self._under_way: deque[_Sum] = deque()
        self._waiting = waiting
        self.begun = 0

    @contextmanager
    def during(self) -> Iterator[None]:
        """Wraps the last backward pass: a bucket is summed as soon as its gradients are complete."""
        hooks = [
            parameter.register_post_accumulate_grad_hook(self._complete)
            for bucket in self._buckets
            for parameter in bucket
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def end(self) -> None:
        """Sums what is left, such as gradients that no backward pass came to, and waits for all."""
        while self._buckets:
            self._begin()
        while self._under_way:
            self._end_first()

    def _complete(self, parameter: Tensor) -> None:
        self._missing[self._bucket_of[id(parameter)]].discard(id(parameter))
        while self._buckets and not self._missing[len(self._buckets) - 1]:
            self._begin()

    def _begin(self) -> None:
        if len(self._under_way) == UNDER_WAY:
            self._end_first()
        self._under_way.append(_Sum(self._buckets.pop(), ahead=True))
        self.begun += 1

    def _end_first(self) -> None:
        with self._waiting():
            self._under_way.popleft().end()
