"""How torch's distributed checkpoint writes and reads the files of divided tensors here.

torch's own writer puts a whole file together in memory first; this one writes a tensor at a time. torch has the ranks
agree on who writes and reads what, and wait for each other; what each does then is wrapped as its own work.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from engine.contract.durable import sync
from engine.process.gradient_sums import Waiting
from engine.training.tensorfile import save_file

FORM = {"DCP_VERSION": "1.0", "format": "pt"}  # as torch's own writer says it
OFFSETS = "DCP_SHARDING_INFO"  # in a file's header: where in the whole tensors its parts begin


class Writer(HuggingFaceStorageWriter):
    """Writes this rank's files; `files` has the number of the file, counted from 1, that each tensor goes to."""

    def __init__(self, folder: Path, files: Mapping[str, int], working: Waiting) -> None:
        super().__init__(str(folder), save_distributed=True)
        self._folder, self._files, self._working = folder, files, working

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Writes what the plan has for this rank; raises OSError."""
        found: dict[int, list[WriteItem]] = {}
        for item in plan.items:
            found.setdefault(self._files[item.index.fqn], []).append(item)
        shard, last = plan.storage_data["shard_index"], max(self._files.values(), default=1)
        with self._working():
            for number, items in found.items():
                name = f"shard-{shard:05d}-model-{number:05d}-of-{last:05d}.safetensors"
                _write(self._folder / name, items, planner)
        done: Future[list[WriteResult]] = Future()
        done.set_result([])  # nobody asks: each file says itself what it holds
        return done


def _write(path: Path, items: list[WriteItem], planner: SavePlanner) -> None:
    tensors: dict[str, Any] = {item.index.fqn: planner.resolve_data(item) for item in items}
    chunks = {item.index.fqn: item.tensor_data.chunk for item in items if item.tensor_data is not None}
    offsets = {name: {"saved_offsets": list(chunk.offsets)} for name, chunk in chunks.items()}
    save_file(tensors, path, {OFFSETS: json.dumps(offsets), **FORM})
    sync(path)


class Reader(HuggingFaceStorageReader):
    """Reads some files of a folder alone, whatever else lies in it."""

    def __init__(self, folder: Path, names: Iterable[str], working: Waiting) -> None:
        super().__init__(str(folder))
        self.fs, self._working = Listed([str(folder / name) for name in names]), working

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What the files hold; raises OSError or SafetensorError."""
        with self._working():
            return super().read_metadata(*args, **kwargs)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        """Reads what the plan has for this rank; raises OSError or SafetensorError."""
        with self._working():
            return super().read_data(plan, planner)


class Listed(FileSystem):
    """A folder that has these files and no others."""

    def __init__(self, files: list[str]) -> None:
        self._files = files

    def ls(self, path: Any) -> list[str]:  # noqa: ARG002
        """The files."""
        return self._files
