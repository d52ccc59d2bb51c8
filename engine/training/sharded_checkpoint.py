"""Checkpoints and the best model of a model that is divided among the ranks: every rank writes its share.

The folder is the usual one, published by rank 0 when all shares are written, flushed and hashed. The best model is put
together in the usual format, one weight at a time.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from engine.contract.files import staged as staged_at
from engine.contract.manifest import FrozenFile, HashedFile, Manifest
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.untrusted import one_line
from engine.models import lora
from engine.models.lora import Adapters
from engine.process.device_errors import connection_broke
from engine.training import optim, shard_files, tensorfile
from engine.training.checkpoint import (
    OPTIMIZER,
    SAVE_ERRORS,
    SLACK,
    WEIGHTS,
    CheckpointWriter,
    FoundCheckpoint,
    Saved,
    describe,
)
from engine.training.merging import narrowed
from engine.training.shard_files import WEIGHT
from engine.training.tensorfile import Deferred, write_raw

if TYPE_CHECKING:
    from engine.models.sharding import Shards

T = TypeVar("T")
PARTS, LEAST_COMPARED = 16, 1 << 26  # of a checkpoint that is compared with what is held, and their least bytes


@dataclass
class Gathering:
    """Weights that all ranks put together one after the other, in the order in which rank 0 writes them."""

    shards: "Shards"
    left: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, shards: "Shards") -> "Gathering":
        """All that learns."""
        return cls(shards, tensorfile.in_order(shards.mine))

    def deferred(self) -> dict[str, Deferred]:
        """The weights, each put together when it is written."""
        return {name: Gathered(self, name) for name in self.left}

    def take(self, name: str) -> Tensor:
        """The next weight, which must be the one of this name."""
        if self.left[0] != name:  # the other ranks put this one together now
            raise ValueError(f"{name} is written before {self.left[0]}")
        self.left.pop(0)
        divided: Any = self.shards.divided[name]
        with self.shards.world.exchange():
            whole: Tensor = divided.detach().full_tensor()
        return whole

    def finish(self) -> None:
        """Takes part in putting together what is left."""
        while self.left:
            self.take(self.left[0])


@dataclass(frozen=True)
class Gathered:
    """A weight that all ranks put together when it is written."""

    gathering: Gathering
    name: str

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype."""
        return self.gathering.shards.mine[self.name].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as a whole."""
        return tuple(self.gathering.shards.divided[self.name].shape)

    def copy(self, target: IO[bytes]) -> None:
        """Writes its bytes to a file; raises OSError."""
        write_raw(self.gathering.take(self.name), target)


class ShardedWriter(CheckpointWriter):
    """Saves one run's checkpoints; every method is called on all ranks together, and raises on all of them."""

    shared = True

    def __init__(
        self,
        output: OutputDir,
        model: Any,
        optimizer: torch.optim.Optimizer,
        *,
        keep: int,
        shards: "Shards",
        frozen: FrozenFile | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__(output, model, optimizer, keep=keep, frozen=frozen, adapters=adapters)
        self._shards, self._world = shards, shards.world

    def save(self, about: Manifest) -> Saved:
        """Writes and publishes the checkpoint of `about.step`; raises one of SAVE_ERRORS."""
        began = time.perf_counter()
        final, main = self._output.checkpoint(about.step), self._world.is_main
        staged = self._world.from_main(staged_at(final))
        try:
            self._all(lambda: self._open(staged) if main else None)
            hashed = self._all(lambda: self._write_share(staged))
            frozen = self.write_frozen()
            files = {name: entry for share in hashed for name, entry in share.items()}
            about = replace(about, files=files, frozen=frozen)
            size = self._all(lambda: self._publish(staged, final, about) if main else 0)[0]
        finally:
            if main:
                shutil.rmtree(staged, ignore_errors=True)
        return Saved(final, size, time.perf_counter() - began)

    def _write_share(self, staged: Path) -> dict[str, HashedFile]:
        tensors = tensors_of(self._shards, self._optimizer)
        shard_files.write(staged, tensors, self._world.size, self._world.rank_status)
        return {path.name: describe(path) for path in shard_files.own_files(staged, self._world.rank)}

    def _write_files(self, folder: Path) -> dict[str, HashedFile]:
        return self._write_configs(folder)

    def write_frozen(self) -> FrozenFile:
        """The manifest entry of the frozen weights, which are written if they are not yet; raises SAVE_ERRORS."""
        write = super().write_frozen
        self._frozen = self._all(lambda: write() if self._world.is_main else None)[0]
        self._shards.unchanged.clear()
        assert self._frozen is not None
        return self._frozen

    def _frozen_as_loaded(self) -> Mapping[str, Tensor | Deferred]:
        return (
            self._shards.unchanged if self._adapters is None else narrowed(self._shards.unchanged, self._adapters.kind)
        )

    def bytes_needed(self) -> int:
        """An upper bound on the bytes of the next checkpoint."""
        of_each = (t for values in self._optimizer.state.values() for t in values.values() if isinstance(t, Tensor))
        mine = sum(tensor.nbytes for tensor in (*self._shards.mine.values(), *of_each))
        frozen = sum(tensor.nbytes for tensor in self._shards.unchanged.values())
        return int(sum(self._world.gather([mine]))) + int(self._world.from_main(frozen)) + SLACK

    def publish(self, tokenizer: Any, base: str) -> None:
        """Publishes the model as it is, put together by rank 0; `base` is what it began with; raises SAVE_ERRORS."""
        with self._world.exchange():
            adapters = None if self._adapters is None else lora.whole(self._adapters)
        gathering = Gathering.of(self._shards)

        def work() -> None:
            try:
                if self._world.is_main:
                    weights = gathering.deferred() if adapters is None else {}
                    self._write_best(tokenizer, base, {**self.as_loaded(), **weights}, adapters)
            finally:
                if adapters is None:
                    gathering.finish()

        self._all(work)

    def prune(self, newest: int, best_step: int) -> list[str]:
        """Removes all but the newest checkpoints up to step `newest` and that of `best_step`; on rank 0."""
        return super().prune(newest, best_step) if self._world.is_main else []

    def _all(self, work: Callable[[], T]) -> list[T]:
        """What `work` returned on each rank; raises OSError on all of them if it failed on one."""
        value, why = None, ""
        try:
            value = work()
        except SAVE_ERRORS as error:
            why = one_line(error) or type(error).__name__
        found = self._world.gather([(value, why)])
        for _, fault in found:
            if fault:
                raise OSError(fault)
        return [value for value, _ in found]


def tensors_of(shards: "Shards", optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """This rank's share of what learns and of the optimizer's state, as a checkpoint names them."""
    found = {f"{WEIGHT}:{name}": shards.divided_like(name, mine.detach()) for name, mine in shards.mine.items()}
    for name, mine in shards.mine.items():
        for key, value in optimizer.state[mine].items():
            if key != "step":  # the number of updates, which the manifest has
                found[f"{key}:{name}"] = shards.divided_like(name, value)
    return found


def first_difference(shards: "Shards", optimizer: torch.optim.Optimizer, found: FoundCheckpoint) -> str:
    """The name of a tensor of which this rank's share is not the one in a checkpoint, empty if there is none.

    All ranks call it together; raises OSError.
    """
    held, differ = tensors_of(shards, optimizer), list[str]()
    size = sum(tensor.numel() * tensor.dtype.itemsize for tensor in held.values())
    # In parts: a second copy of the whole share would be the rehearsal's peak, and no run holds it.
    parts = shard_files.parts_of(held, max(LEAST_COMPARED, size // PARTS))
    for part in dict.fromkeys(parts.values()):
        again = {
            name: shards.divided_like(name.partition(":")[2], torch.zeros_like(tensor.to_local()))
            for name, tensor in held.items()
            if parts[name] == part
        }
        shard_files.read_into(found.path, found.shard_files, again, shards.world.rank_status)
        differ += [name for name, read in again.items() if not torch.equal(held[name].to_local(), read.to_local())]
    return differ[0] if differ else ""


def restore(shards: "Shards", optimizer: torch.optim.Optimizer, start: FoundCheckpoint) -> None:
    """Gives this rank its share of a checkpoint of any number of ranks; all call it; raises InputError."""
    for mine in shards.mine.values():
        moments = {key: torch.zeros_like(mine, requires_grad=False) for key in ("exp_avg", "exp_avg_sq")}
        place = optim.device_of_counter(optimizer, mine)
        optimizer.state[mine] = {"step": torch.tensor(float(start.step), device=place), **moments}
    try:
        if start.sharded:
            shard_files.read_into(
                start.path, start.shard_files, tensors_of(shards, optimizer), shards.world.rank_status
            )
        else:
            _take_share(shards, optimizer, start)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if connection_broke(error):
            raise
        raise InputError("shards_differ", path=str(start.path), why=one_line(error)) from None


def _take_share(shards: "Shards", optimizer: torch.optim.Optimizer, start: FoundCheckpoint) -> None:
    """The same from a checkpoint that one process holds whole, a tensor at a time."""
    held = {**tensorfile.stored(start.path / WEIGHTS), **tensorfile.stored(start.path / OPTIMIZER)}
    for name, mine in shards.mine.items():
        with torch.no_grad():
            mine.copy_(shards.share_of(held[name].read()))
        for key in ("exp_avg", "exp_avg_sq"):
            optimizer.state[mine][key].copy_(shards.share_of(held[f"{key}:{name}"].read()))
