"""What a checkpoint's folder contains, and what it says about itself."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from engine.contract.bounds import Count, PathText, Real, as_json
from engine.contract.config import require_kinds
from engine.contract.durable import read_json_as
from engine.contract.files import matching

CHECKPOINT_NAME = re.compile(r"step-([0-9]{8})")
SHARD_NAME = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors")
MANIFEST = "MANIFEST.json"
# Files that belong to a checkpoint even if its manifest cannot be read.
CHECKPOINT_FILES = ("trained.safetensors", "optimizer.safetensors", "config.json", "generation_config.json")


@dataclass(frozen=True)
class HashedFile:
    """Size (bytes) and sha256 of a file."""

    size: Count = 0
    sha256: str = ""


@dataclass(frozen=True)
class FrozenFile:
    """The file of the weights that do not learn, relative to the folder of the checkpoints, with size and sha256."""

    file: PathText = ""
    size: Count = 0
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """The content of a checkpoint's MANIFEST.json, except for its own hash."""

    run: str = ""
    step: Count = 0  # optimizer steps done
    epoch: Count = 0
    steps_total: Count | None = None  # older ones do not say
    loss: Real = 0.0  # of that step
    world_size: Count = 0
    effective_batch: Count = 0  # rows of a step over all ranks; older ones do not say
    encodings: bool = False  # whether the encoder's output was kept across epochs
    layout: str = ""  # of rows: "padded" or "end to end", where a GPU has the choice
    config: Annotated[dict[str, Any], require_kinds] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)  # sha256 of what it was trained with, by setting
    versions: dict[str, str] = field(default_factory=dict)
    left_out: tuple[Count, ...] = ()  # rows of the training file
    next_loss: Real | None = None  # of the step after it, if it was computed
    files: dict[str, HashedFile] = field(default_factory=dict)
    frozen: FrozenFile = FrozenFile()

    @property
    def shards(self) -> list[str]:
        """The files of tensors that are divided among ranks."""
        return sorted(name for name in self.files if SHARD_NAME.fullmatch(name))

    @property
    def sharded(self) -> bool:
        """Whether its tensors are in such files."""
        return bool(self.shards)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain values, without those that are unknown."""
        return {name: value for name, value in as_json(self).items() if value is not None}


def read_manifest(checkpoint: Path) -> Manifest:
    """What a checkpoint says about itself, unverified; an empty Manifest if it cannot be read."""
    return read_json_as(Manifest, checkpoint / MANIFEST)


def files_of_checkpoint(folder: Path) -> list[str]:
    """The names of the files that a run writes into a checkpoint's folder, the manifest last."""
    shards = {path.name for path in matching(folder, SHARD_NAME)}
    return [*sorted({*CHECKPOINT_FILES, *shards, *read_manifest(folder).files} - {MANIFEST}), MANIFEST]
