"""The state dict that a run exports of its best model, and how it is distinguished from other people's files."""

import hashlib
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from engine.contract.bounds import PathText, as_json
from engine.contract.durable import read_json_as, write_json
from engine.contract.files import open_regular, read_whole
from engine.contract.manifest import HashedFile
from engine.contract.outputdir import OutputDir

MARK = "archive/sft-tui"  # an entry in every file that we write, and in no other file, whatever a record says
DIGEST = "model.safetensors.sha256"  # next to the weights of a best model
KEPT_HASHES = 2  # the newest, and the one it replaces: a run may be killed after writing its record and before its file


@dataclass(frozen=True)
class Exported:
    """The state dict that was exported, the hash of the best model it was made from, and what was written there."""

    path: PathText = ""  # absolute
    source: str = ""
    files: list[HashedFile] = field(default_factory=list)  # the newest first


def may_be_written(target: Path, output: OutputDir) -> bool:
    """Whether a run of `output` may write the file: it does not exist, or a run of this folder wrote it."""
    return not os.path.lexists(target) or is_exported(target, output)


def is_exported(target: Path, output: OutputDir) -> bool:
    """Whether the file is, byte for byte, what a run of this folder wrote; runs moved to `earlier/` count too."""
    records = (output.exported, *output.path.glob(f"earlier/*/{output.exported.name}"))
    known = {entry for record in records for entry in read_json_as(Exported, record).files}
    try:
        with os.fdopen(open_regular(target), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size not in {entry.size for entry in known}:
                return False
            return HashedFile(size, hashlib.file_digest(file, "sha256").hexdigest()) in known and _has_mark(file)
    except OSError:
        return False


def _has_mark(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return MARK in archive.namelist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
        return False


def is_due(target: Path, output: OutputDir) -> bool:
    """Whether the file still has to be made from the best model; False if there is no best model."""
    made_of = exported(output).source
    return output.best.is_dir() and not (made_of == digest_of_best(output) and is_exported(target, output))


def digest_of_best(output: OutputDir) -> str:
    """The hash that was published with the best model; empty if there is none."""
    try:
        words = read_whole(output.best / DIGEST).decode("utf-8", "replace").split()
    except OSError:
        return ""
    return words[0] if words else ""


def exported(output: OutputDir) -> Exported:
    """What a run of this folder exported; an empty record if nothing was."""
    return read_json_as(Exported, output.exported)


def remember(output: OutputDir, target: Path, written: HashedFile, source: str) -> None:
    """Records what is about to be written to `target`; raises OSError."""
    files = [written, *exported(output).files][:KEPT_HASHES]
    write_json(output.exported, as_json(Exported(str(target.absolute()), source, files)))
