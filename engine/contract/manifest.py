"""What a checkpoint's folder contains."""

import re
from pathlib import Path

from engine.contract.durable import read_json

CHECKPOINT_NAME = re.compile(r"step-([0-9]{8})")
MANIFEST = "MANIFEST.json"
# Files that belong to a checkpoint even if its manifest cannot be read.
CHECKPOINT_FILES = ("trained.safetensors", "optimizer.safetensors", "config.json", "generation_config.json")


def files_of_checkpoint(folder: Path) -> list[str]:
    """The names of the files that a run writes into a checkpoint's folder, the manifest last."""
    return [*sorted({*CHECKPOINT_FILES, *_promised(folder)} - {MANIFEST}), MANIFEST]


def _promised(checkpoint: Path) -> list[str]:
    """The names of the files in a checkpoint's manifest."""
    files = read_json(checkpoint / MANIFEST).get("files")
    return list(files) if isinstance(files, dict) else []
