"""Checkpoints: staged, hashed, published by a rename, verified before a tensor is used; no pickle anywhere.

A checkpoint is a folder `step-<8 digits>` with the trained weights, the optimizer's state and the model's
configuration, and a MANIFEST.json, written last, with size and sha256 of every file. Weights that do not learn are
kept once for all checkpoints, in `frozen/<sha256>.safetensors`.
"""

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GenerationConfig

from engine import optim
from engine.contract.messages import Message
from engine.contract.rundir import MANIFEST, OutputDir
from engine.model import frozen_tensors, model_config_json, one_line, trained_parameters

WEIGHTS, OPTIMIZER = "trained.safetensors", "optimizer.safetensors"
MODEL_CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
STAGED = ".tmp-"
OLD_BEST = ".old-best"
SAVE_ERRORS = (OSError, SafetensorError)


@dataclass(frozen=True)
class Saved:
    """A published checkpoint: where, how large (bytes), and how long it took (seconds)."""

    path: Path
    size: int
    seconds: float


@dataclass(frozen=True)
class Found:
    """A checkpoint whose every hash was verified."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps it has behind it."""
        return int(self.manifest["step"])

    @property
    def frozen(self) -> Path:
        """The file with the weights that do not learn."""
        return self.path.parent / str(self.manifest["frozen"]["file"])

    def model_config(self) -> dict[str, Any]:
        """The model's configuration."""
        value: dict[str, Any] = json.loads((self.path / MODEL_CONFIG).read_text(encoding="utf-8"))
        return value

    def generation_config(self) -> GenerationConfig:
        """The model's generation settings, which are published with the best model."""
        return GenerationConfig.from_pretrained(self.path, local_files_only=True)

    def weights(self) -> dict[str, Tensor]:
        """Every weight of the model, trained and frozen."""
        return {**load_file(self.frozen), **load_file(self.path / WEIGHTS)}

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer's tensors, as `optim.state_tensors` named them."""
        return load_file(self.path / OPTIMIZER)


class CheckpointWriter:
    """Saves one run's checkpoints; used by rank 0 alone.

    `frozen` is the entry of the frozen file in a verified manifest of this run, if there is one already.
    """

    def __init__(
        self,
        output: OutputDir,
        model: Any,
        optimizer: torch.optim.Optimizer,
        *,
        keep: int,
        frozen: dict[str, Any] | None = None,
    ) -> None:
        self._output, self._model, self._optimizer = output, model, optimizer
        self._keep, self._frozen = keep, frozen

    def save(self, about: dict[str, Any]) -> Saved:
        """Writes and publishes the checkpoint of `about["step"]`; raises one of SAVE_ERRORS.

        Every file is on the disk before the folder gets its name. `about` becomes part of the manifest.
        """
        began = time.perf_counter()
        final = self._output.checkpoint(int(about["step"]))
        staged = final.with_name(f"{STAGED}{final.name}-{os.getpid()}")
        try:
            staged.mkdir(parents=True)
            if self._frozen is None:
                self._frozen = _write_frozen(final.parent / "frozen", frozen_tensors(self._model))
            files = self._write_files(staged)
            manifest = {**about, "files": files, "frozen": self._frozen}
            _write_text(staged / MANIFEST, json.dumps({**manifest, "sha256": _own_hash(manifest)}, indent=1))
            _sync_folder(staged)
            if final.exists():  # saved by an earlier attempt and found wanting
                shutil.rmtree(final)
            staged.rename(final)
            _sync_folder(final.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return Saved(final, sum(entry["size"] for entry in files.values()), time.perf_counter() - began)

    def _write_files(self, folder: Path) -> dict[str, dict[str, Any]]:
        trained = trained_parameters(self._model)
        names = {id(parameter): name for name, parameter in trained.items()}
        _write_tensors(folder / WEIGHTS, {name: parameter.detach() for name, parameter in trained.items()})
        _write_tensors(folder / OPTIMIZER, optim.state_tensors(self._optimizer, names))
        _write_text(folder / MODEL_CONFIG, model_config_json(self._model))
        _write_text(folder / GENERATION_CONFIG, self._model.generation_config.to_json_string(use_diff=False))
        return {path.name: describe(path) for path in sorted(folder.iterdir())}

    def prune(self, newest: int, best_step: int) -> list[str]:
        """Removes all but the newest checkpoints up to step `newest` and that of `best_step`; the removed names."""
        # Later ones are damaged, or resuming would have begun there; they are replaced when training reaches them.
        mine = [step for step in self._output.checkpoint_steps() if step <= newest]
        doomed = [step for step in mine[self._keep :] if step != best_step]
        for step in doomed:
            shutil.rmtree(self._output.checkpoint(step), ignore_errors=True)
        return [self._output.checkpoint(step).name for step in doomed]


def _write_frozen(folder: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Writes the weights that do not learn under the hash of their file; their entry for manifests."""
    folder.mkdir(exist_ok=True)
    staged = folder / f"{STAGED}{os.getpid()}"
    try:
        _write_tensors(staged, tensors)
        entry = describe(staged)
        path = folder / f"{entry['sha256']}.safetensors"
        staged.rename(path)
        _sync_folder(folder)
    finally:
        staged.unlink(missing_ok=True)
    return {"file": f"{folder.name}/{path.name}", **entry}


def bytes_needed(model: Any, optimizer: str) -> int:
    """An upper bound on the bytes that the first checkpoint and the best model take together."""
    trained = sum(p.numel() * p.element_size() for p in trained_parameters(model).values())
    frozen = sum(t.numel() * t.element_size() for t in frozen_tensors(model).values())
    state = 2 * trained if optimizer == "adamw" else trained // 16
    return 2 * (trained + frozen) + state + (16 << 20)


def remove_leftovers(output: OutputDir) -> None:
    """Removes what saves that were cut off left behind; only to be called under the folder's lock."""
    for folder in (output.checkpoints, output.checkpoints / "frozen", output.path):
        for entry in folder.glob(f"{STAGED}*"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def newest_sound(output: OutputDir) -> tuple[Found | None, list[Message]]:
    """The newest checkpoint whose every hash is right, and a message for each newer one that was skipped."""
    skipped: list[Message] = []
    for step in output.checkpoint_steps():
        path = output.checkpoint(step)
        try:
            return Found(path, verify(path)), skipped
        except (OSError, ValueError) as error:
            skipped.append(Message.of("checkpoint_skipped", checkpoint=str(path), why=one_line(error)))
    return None, skipped


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint; raises OSError or ValueError that names the file where something is wrong."""
    manifest = _read_manifest(path)
    expected = {name: (path / name, entry) for name, entry in manifest["files"].items()}
    frozen = manifest["frozen"]
    expected["frozen weights"] = (path.parent / frozen["file"], frozen)
    for name, (file, entry) in expected.items():
        size = file.stat().st_size
        if size != entry["size"]:
            raise ValueError(f"{name} has {size} bytes instead of {entry['size']}")
        if describe(file)["sha256"] != entry["sha256"]:
            raise ValueError(f"{name} was changed: its hash is not the one of {MANIFEST}")
    return manifest


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, which is hashed itself; raises OSError, or ValueError where it is not the one that was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        own = manifest.pop("sha256")
        sound = own == _own_hash(manifest) and f"step-{manifest['step']:08d}" == path.name
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be read: {one_line(error)}") from None
    if not sound:
        raise ValueError(f"{MANIFEST} was changed: its hash is not the one it was written with")
    return dict(manifest)


def _own_hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def describe(path: Path) -> dict[str, Any]:
    """Size and hash of a file, as a manifest lists them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    _sync_file(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync_file(path)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_sync_folder = _sync_file  # a folder is flushed the same way: its entries are its content


def publish_best(output: OutputDir, model: Any, tokenizer: Any) -> None:
    """Writes the model as a transformers folder and puts it in the place of the best so far; raises SAVE_ERRORS."""
    staged = output.path / f"{STAGED}best-{os.getpid()}"
    old = output.path / OLD_BEST
    try:
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        for path in staged.iterdir():
            _sync_file(path)
        _sync_folder(staged)
        if output.best.exists():
            shutil.rmtree(old, ignore_errors=True)
            output.best.rename(old)
        staged.rename(output.best)
        _sync_folder(output.path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        restore_best(output)


def restore_best(output: OutputDir) -> None:
    """Puts the earlier best model back where a publication was cut off between its two renames, else removes it."""
    old = output.path / OLD_BEST
    if old.exists() and not output.best.exists():
        old.rename(output.best)
    shutil.rmtree(old, ignore_errors=True)
