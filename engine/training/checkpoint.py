"""Checkpoints: staged, hashed, published by a rename, verified before a tensor is used; no pickle anywhere.

A checkpoint is a folder `step-<8 digits>` with the trained weights, the optimizer's state and the model's
configuration, and a MANIFEST.json, written last, with size and sha256 of every file. Weights that do not learn are
kept once for all checkpoints, in `frozen/<sha256>.safetensors`.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig

from engine.contract.bounds import read_as
from engine.contract.durable import sync
from engine.contract.files import staged as staged_at
from engine.contract.manifest import MANIFEST, FrozenFile, HashedFile, Manifest
from engine.contract.messages import Message
from engine.contract.outputdir import ADAPTER, OutputDir
from engine.contract.untrusted import one_line, reading_untrusted
from engine.data.tokenizer import save_tokenizer
from engine.models.counting import state_bytes
from engine.models.freezing import frozen_tensors, trained_parameters
from engine.models.loading import model_config_json
from engine.models.lora import Adapters
from engine.training import optim, shard_files, tensorfile
from engine.training.adapter_files import write_adapter
from engine.training.merging import merged, narrowed
from engine.training.removing import make_room, remove, remove_checkpoint
from engine.training.tensorfile import Deferred, save_file

WEIGHTS, OPTIMIZER = "trained.safetensors", "optimizer.safetensors"
MODEL_CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
MODEL_WEIGHTS = "model.safetensors"  # in a transformers folder
OLD_BEST = ".sft-old-best"
SLACK = 1 << 20  # bytes for configurations, headers, and the file system's overhead
SAVE_ERRORS = (OSError, SafetensorError)


_sync_file = _sync_folder = sync  # syncing a folder syncs its entries


@dataclass(frozen=True)
class Saved:
    """A published checkpoint: its path, its size (bytes), and the time it took (seconds)."""

    path: Path
    size: int
    seconds: float


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint whose every hash was verified."""

    path: Path
    manifest: Manifest

    @property
    def step(self) -> int:
        """Optimizer steps done at the checkpoint."""
        return self.manifest.step

    @property
    def frozen(self) -> Path:
        """The file with the frozen weights."""
        return self.path.parent / self.manifest.frozen.file

    def model_config(self) -> dict[str, Any]:
        """The model's configuration."""
        value: dict[str, Any] = json.loads((self.path / MODEL_CONFIG).read_text(encoding="utf-8"))
        return value

    def generation_config(self) -> GenerationConfig:
        """The model's generation settings, published with the best model."""
        return GenerationConfig.from_pretrained(self.path, local_files_only=True)

    @property
    def sharded(self) -> bool:
        """Whether its tensors are divided among files of several ranks."""
        return self.manifest.sharded

    @property
    def shard_files(self) -> list[str]:
        """The names of these files."""
        return self.manifest.shards

    def weights(self) -> dict[str, Tensor]:
        """Every weight of the model, trained and frozen."""
        with reading_untrusted("model_bad", self.path):
            return {**load_file(self.frozen), **self.trained()}

    def outline(self) -> dict[str, Tensor]:
        """The same, but of divided weights only shape and dtype are right: each rank takes its share of them later."""
        if not self.sharded:
            return self.weights()
        with reading_untrusted("model_bad", self.path):
            return {**load_file(self.frozen), **shard_files.stand_ins(self.path, self.shard_files)}

    def trained(self) -> dict[str, Tensor]:
        """The weights that learn."""
        with reading_untrusted("model_bad", self.path):
            if not self.sharded:
                return load_file(self.path / WEIGHTS)
            return shard_files.whole(self.path, self.shard_files, lambda kind: kind == shard_files.WEIGHT)

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer's tensors, under the names from `optim.state_tensors`."""
        with reading_untrusted("model_bad", self.path):
            if not self.sharded:
                return load_file(self.path / OPTIMIZER)
            held = shard_files.whole(self.path, self.shard_files, lambda kind: kind != shard_files.WEIGHT)
            names = dict.fromkeys(name.partition(":")[2] for name in held)
            return {**held, **{f"step:{name}": torch.tensor(float(self.step)) for name in names}}


class CheckpointWriter:
    """Saves one run's checkpoints; used on rank 0 only, unless it is `shared`.

    `frozen` is the entry of the frozen file in a verified manifest of this run, if one exists; `unchanged` are the
    frozen weights as loaded if the model no longer has them, emptied when they are written.
    """

    shared = False  # whether all ranks must use it together, each for its share

    def __init__(
        self,
        output: OutputDir,
        model: Any,
        optimizer: torch.optim.Optimizer,
        *,
        keep: int,
        frozen: FrozenFile | None = None,
        adapters: Adapters | None = None,
        unchanged: dict[str, Tensor] | None = None,
    ) -> None:
        self._output, self._model, self._optimizer = output, model, optimizer
        self._keep, self._frozen, self._adapters = keep, frozen, adapters
        self._unchanged = {} if unchanged is None else unchanged
        self._sound: set[int] = set()  # steps whose checkpoints were verified, or written by this object

    def save(self, about: Manifest) -> Saved:
        """Writes and publishes the checkpoint of `about.step`; raises one of SAVE_ERRORS.

        Every file is synced to disk before the folder gets its name. `about` is the manifest without the files.
        """
        began = time.perf_counter()
        final = self._output.checkpoint(about.step)
        staged = staged_at(final)
        try:
            self._open(staged)
            size = self._publish(staged, final, replace(about, frozen=self.write_frozen()))
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return Saved(final, size, time.perf_counter() - began)

    def _open(self, staged: Path) -> None:
        """Makes the folder that a checkpoint is written to; raises OSError."""
        staged.mkdir(parents=True)
        _sync_folder(self._output.path)  # the folder of the checkpoints may be new

    def _publish(self, staged: Path, final: Path, about: Manifest) -> int:
        """Writes what is missing in a staged checkpoint, and its manifest; gives it its name; returns its bytes."""
        files = {**about.files, **self._write_files(staged)}
        manifest = replace(about, files=files).to_json()
        _write_text(staged / MANIFEST, json.dumps({**manifest, "sha256": _own_hash(manifest)}, indent=1))
        _sync_folder(staged)
        make_room(final)
        staged.rename(final)
        _sync_folder(final.parent)
        self._sound.add(about.step)
        return sum(entry.size for entry in files.values())

    def write_frozen(self) -> FrozenFile:
        """The manifest entry of the frozen weights, which are written if they are not yet; raises SAVE_ERRORS."""
        if self._frozen is None:
            tensors = self._frozen_as_loaded()
            self._frozen = _write_frozen(self._output.checkpoints / "frozen", tensors)
            self._unchanged.clear()
        return self._frozen

    @property
    def frozen(self) -> Path | None:
        """The file with the frozen weights, once it is written."""
        return None if self._frozen is None else self._output.checkpoints / self._frozen.file

    def bytes_needed(self) -> int:
        """An upper bound on the bytes of the next checkpoint."""
        state = (t for values in self._optimizer.state.values() for t in values.values() if isinstance(t, Tensor))
        trained = trained_parameters(self._model).values()
        frozen = self._frozen_as_loaded().values() if self._frozen is None else ()
        return _bytes_of((*trained, *state, *frozen)) + SLACK

    def publish(self, tokenizer: Any, base: str) -> None:
        """Publishes the model as it is, with adapters merged; `base` is what it began with; raises SAVE_ERRORS."""
        trained = _in_memory(self._model, frozen=False) if self._adapters is None else {}
        self._write_best(tokenizer, base, {**self.as_loaded(), **trained}, self._adapters)

    def _write_best(
        self, tokenizer: Any, base: str, weights: Mapping[str, Tensor | Deferred], adapters: Adapters | None
    ) -> None:
        if adapters is None:
            publish_best(self._output, self._model, tokenizer, weights)
            return
        adapter = partial(write_adapter, model=self._model, adapters=adapters, base=base)
        publish_best(self._output, self._model, tokenizer, merged(weights, adapters), adapter)

    def as_loaded(self) -> Mapping[str, Tensor | Deferred]:
        """The weights that do not learn, from their file if that is written."""
        frozen = self.frozen
        return self._frozen_as_loaded() if frozen is None else tensorfile.stored(frozen)

    def _frozen_as_loaded(self) -> Mapping[str, Tensor | Deferred]:
        return _frozen_as_loaded(self._model, self._adapters, self._unchanged)

    def _write_files(self, folder: Path) -> dict[str, HashedFile]:
        trained = trained_parameters(self._model)
        names = {id(parameter): name for name, parameter in trained.items()}
        _write_tensors(folder / WEIGHTS, {name: parameter.detach() for name, parameter in trained.items()})
        _write_tensors(folder / OPTIMIZER, optim.state_tensors(self._optimizer, names))
        written = {name: describe(folder / name) for name in (OPTIMIZER, WEIGHTS)}
        return dict(sorted({**written, **self._write_configs(folder)}.items()))

    def _write_configs(self, folder: Path) -> dict[str, HashedFile]:
        _write_text(folder / MODEL_CONFIG, model_config_json(self._model))
        _write_text(folder / GENERATION_CONFIG, self._model.generation_config.to_json_string(use_diff=False))
        return {name: describe(folder / name) for name in (MODEL_CONFIG, GENERATION_CONFIG)}

    def prune(self, newest: int, best_step: int) -> list[str]:
        """Removes all but the newest checkpoints up to step `newest` and that of `best_step`; returns those names."""
        # Later ones are damaged, or the run would have resumed there; they are replaced when training reaches them.
        mine = [step for step in self._output.checkpoint_steps() if step <= newest]
        doomed = [step for step in mine[self._enough(mine) :] if step != best_step]
        for step in doomed:
            with contextlib.suppress(OSError):
                remove_checkpoint(self._output.checkpoint(step))
        return [self._output.checkpoint(step).name for step in doomed]

    def _enough(self, steps: list[int]) -> int:
        """How many of `steps`, newest first, must be kept to have the required number of sound ones."""
        sound = 0
        for place, step in enumerate(steps):
            sound += self._is_sound(step)
            if sound == self._keep:
                return place + 1
        return len(steps)

    def _is_sound(self, step: int) -> bool:
        """Whether a checkpoint is intact; verified only once, and not if this object wrote it."""
        if step not in self._sound:
            with contextlib.suppress(OSError, ValueError):
                verify(self._output.checkpoint(step))
                self._sound.add(step)
        return step in self._sound


def _frozen_as_loaded(
    model: Any, adapters: Adapters | None, unchanged: Mapping[str, Tensor] = MappingProxyType({})
) -> Mapping[str, Tensor | Deferred]:
    """The weights that do not learn; below adapters in the dtype of the files that they were loaded from."""
    found = unchanged or frozen_tensors(model)
    return found if adapters is None else narrowed(found, adapters.kind)


def _write_frozen(folder: Path, tensors: Mapping[str, Tensor | Deferred]) -> FrozenFile:
    """Writes the frozen weights under the hash of their file; returns their entry for manifests."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = staged_at(folder / "frozen")
    try:
        _write_tensors(staged, tensors)
        entry = describe(staged)
        path = folder / f"{entry.sha256}.safetensors"
        staged.rename(path)
        _sync_folder(folder)
    finally:
        staged.unlink(missing_ok=True)
    return FrozenFile(f"{folder.name}/{path.name}", entry.size, entry.sha256)


def bytes_needed(model: Any, optimizer: str, adapters: Adapters | None = None) -> int:
    """An upper bound on the bytes of the first checkpoint and the best model together.

    What learns is counted in fp32, in which it is kept, though it may still have the dtype of its files.
    """
    trained = sum(torch.float32.itemsize * parameter.numel() for parameter in trained_parameters(model).values())
    frozen = _bytes_of(_frozen_as_loaded(model, adapters).values())
    state = sum(state_bytes(optimizer, parameter.shape) for parameter in trained_parameters(model).values())
    return 2 * (trained + frozen) + state + 2 * SLACK


def _bytes_of(tensors: Iterable[Tensor | Deferred]) -> int:
    return sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)


def remove_leftovers(output: OutputDir) -> None:
    """Removes what interrupted saves left behind; call only under the folder's lock."""
    output.remove_staged()


def newest_sound(output: OutputDir) -> tuple[FoundCheckpoint | None, list[Message]]:
    """The newest checkpoint whose hashes are all correct, and a message for each newer one that was skipped."""
    skipped: list[Message] = []
    for step in output.checkpoint_steps():
        path = output.checkpoint(step)
        try:
            return FoundCheckpoint(path, verify(path)), skipped
        except (OSError, ValueError) as error:
            skipped.append(Message.of("checkpoint_skipped", checkpoint=str(path), why=one_line(error)))
    return None, skipped


def verify(path: Path) -> Manifest:
    """The manifest of a checkpoint; raises OSError or ValueError naming the file if something is wrong."""
    manifest = _read_manifest(path)
    for name, file, wanted_size, wanted_hash in _promised(path, manifest):
        size = _regular(file, name).st_size
        if size != wanted_size:
            raise ValueError(f"{name} has {size} bytes instead of {wanted_size}")
        if describe(file).sha256 != wanted_hash:
            raise ValueError(f"{name} was changed: its hash is not the one of {MANIFEST}")
    return manifest


def _promised(path: Path, manifest: Manifest) -> list[tuple[str, Path, int, str]]:
    """Name, path, size and hash of every file; raises ValueError if a manifest lists less than it should."""
    tensors = set() if manifest.sharded else {WEIGHTS, OPTIMIZER}
    missing = {*tensors, MODEL_CONFIG, GENERATION_CONFIG} - manifest.files.keys()
    if missing:
        raise ValueError(f"{MANIFEST} has another form: no {', '.join(sorted(missing))}")
    frozen = manifest.frozen
    promised = [(name, path / name, entry.size, entry.sha256) for name, entry in manifest.files.items()]
    return [*promised, ("frozen weights", path.parent / frozen.file, frozen.size, frozen.sha256)]


def _read_manifest(path: Path) -> Manifest:
    """The manifest, which has a hash itself; raises OSError, or ValueError if it is not the one that was written."""
    _regular(path / MANIFEST, MANIFEST)
    try:
        written = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        own = written.pop("sha256")
        sound = own == _own_hash(written) and f"step-{written['step']:08d}" == path.name
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be read: {one_line(error)}") from None
    if not sound:
        raise ValueError(f"{MANIFEST} was changed: its hash is not the one it was written with")
    try:
        return read_as(Manifest, written)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{MANIFEST} has another form: {one_line(error)}") from None


def _regular(path: Path, name: str) -> os.stat_result:
    """The status of a regular file; raises ValueError if it is anything else: reading a pipe would block."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{name} is not a regular file")
    return status


def _own_hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def describe(path: Path) -> HashedFile:
    """Size and hash of a file, as a manifest lists them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return HashedFile(path.stat().st_size, digest)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor | Deferred]) -> None:
    save_file(tensors, path)
    _sync_file(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync_file(path)


def publish_best(
    output: OutputDir,
    model: Any,
    tokenizer: Any,
    weights: Mapping[str, Tensor | Deferred] | None = None,
    adapter: Callable[[Path], None] | None = None,
) -> None:
    """Writes the model as a transformers folder and replaces the best one so far with it; raises SAVE_ERRORS.

    Its weights are `weights`, as a CheckpointWriter gives them, or without these those in memory; `adapter` writes the
    adapter that is merged into them to a folder.
    """
    staged = staged_at(output.best)
    old = output.path / OLD_BEST
    try:
        staged.mkdir(parents=True)
        model.config.architectures = [getattr(model, "architecture", type(model).__name__)]
        model.config.save_pretrained(staged)
        model.generation_config.save_pretrained(staged)
        save_file(weights or _in_memory(model), staged / MODEL_WEIGHTS, {"format": "pt"})
        digest = describe(staged / MODEL_WEIGHTS).sha256
        # In sha256sum's format: a run that starts from this model can check that it is still the one published.
        _write_text(staged / f"{MODEL_WEIGHTS}.sha256", f"{digest}  {MODEL_WEIGHTS}\n")
        save_tokenizer(tokenizer, staged)
        if adapter is not None:
            adapter(staged / ADAPTER)
        written = [path for path in staged.rglob("*") if path.is_file()]
        for path in written:
            _sync_file(path)
        for folder in {path.parent for path in written}:
            _sync_folder(folder)
        output.note_best(str(path.relative_to(staged)) for path in written)
        if output.best.exists():
            shutil.rmtree(old, ignore_errors=True)
            output.best.rename(old)
        staged.rename(output.best)
        _sync_folder(output.path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        restore_best(output)


def _in_memory(model: Any, *, frozen: bool = True) -> dict[str, Tensor]:
    trained = {name: parameter.detach() for name, parameter in trained_parameters(model).items()}
    return {**(frozen_tensors(model) if frozen else {}), **trained}


def restore_best(output: OutputDir) -> None:
    """Restores the earlier best model if a publication was interrupted between its two renames, else removes it."""
    old = output.path / OLD_BEST
    if old.exists() and not output.best.exists():
        old.rename(output.best)
    elif old.is_dir() and not old.is_symlink():
        with contextlib.suppress(OSError):
            remove(old, output.files_of_best(), output.best)  # files that a person put there stay with the best model
