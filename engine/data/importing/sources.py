"""Finding the files to import: patterns, folders of shards, what `datasets` saves, and files without rows."""

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.contract.files import read_linked
from engine.contract.messages import InputError
from engine.data.formats import FOREIGN, content_of

MOST = 100_000  # files and folders per folder
SUFFIXES = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather"}
PACKED = {".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz", ".lz4"}
METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
SPLIT = re.compile(r"(?:^|[-_./ ])(train|validation|valid|val|dev|eval|test)(?=$|[-_./ ])", re.IGNORECASE)


@dataclass(frozen=True)
class FoundFile:
    """The files to read, in order, and the skipped ones, with a reason's code for each."""

    files: list[Path]
    passed_over: dict[str, str]


def sources_of(names: Iterable[str]) -> FoundFile:
    """The files that these paths, patterns and folders refer to; raises InputError."""
    files: list[Path] = []
    passed: dict[str, str] = {}
    for path in (path for name in names for path in _named(name)):
        if path.is_dir():
            inside = _folder(path, passed)
            if not inside:
                raise InputError("source_none", path=str(path))
            files += inside
        else:
            files.append(path)
    return FoundFile(list(dict.fromkeys(files)), passed)


def _named(name: str) -> list[Path]:
    path = Path(name)
    if path.exists():
        return [path]
    matches = sorted(glob.glob(name)) if glob.has_magic(name) else []
    if not matches:
        raise InputError("source_missing", path=name)
    return [Path(match) for match in matches]


def _folder(folder: Path, passed: dict[str, str]) -> list[Path]:
    listed = _saved(folder, passed)
    if listed is not None:
        return listed
    files = []
    for path in _walked(folder):
        reason = _no_rows(path)
        if reason:
            passed[str(path)] = reason
        else:
            files.append(path)
    splits = {path: _split_of(path.relative_to(folder)) for path in files}
    if "train" not in splits.values() or set(splits.values()) == {"train"}:
        return files
    for path, split in splits.items():
        if split not in ("train", ""):
            passed[str(path)] = f"other_split:{split}"
    return [path for path in files if splits[path] in ("train", "")]


def _walked(folder: Path) -> Iterator[Path]:
    """The files below a folder in name order; links to folders are not followed."""
    found: list[Path] = []
    count = 0
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        found += [Path(place, name) for name in names]
        count += len(folders) + len(names)
        if count > MOST:
            raise InputError("source_folder_large", path=str(folder), most=f"{MOST:,}", pattern=str(folder / "*.jsonl"))
    return iter(sorted(found))


def _unreadable(error: OSError) -> None:
    raise InputError("source_unreadable", path=str(error.filename), why=error.strerror or str(error))


def _saved(folder: Path, passed: dict[str, str]) -> list[Path] | None:
    """The files that `save_to_disk` of `datasets` wrote; None for any other folder; raises InputError."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    if isinstance(splits, list):
        wanted = [str(split) for split in splits]
        if "train" in wanted:
            passed |= {str(folder / split): f"other_split:{split}" for split in wanted if split != "train"}
            wanted = ["train"]
        return [path for split in wanted for path in _saved(folder / split, passed) or ()]
    listed = _json(folder / "state.json").get("_data_files")
    if not isinstance(listed, list):
        return None
    files = [folder / str(entry["filename"]) for entry in listed if isinstance(entry, dict) and "filename" in entry]
    for path in files:
        if not path.is_file() or path.parent != folder:
            raise InputError("source_missing", path=str(path))
    others = (path for path in sorted(folder.iterdir()) if path not in files and path.name not in METADATA)
    passed |= {str(path): "not_listed" for path in others}
    return files


def _json(path: Path) -> dict[str, object]:
    try:
        said = json.loads(read_linked(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _no_rows(path: Path) -> str:
    """The reason why a file of a folder is skipped; empty for a file that is read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if path.name.startswith(".") or any(part.startswith(".") for part in path.parts[:-1] if part not in (".", "..")):
        return "hidden"
    if path.name in METADATA:
        return "metadata"
    if not path.is_file():
        return "not_plain"
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    if not path.stat().st_size:
        return "empty"
    kind = content_of(path).kind
    if kind in FOREIGN:
        return f"foreign:{kind}"
    if kind == "text" and (not suffixes or suffixes[-1] not in SUFFIXES):
        return "other_name"
    return ""


def _split_of(path: Path) -> str:
    """The split that a file belongs to by its name, or that of its folder: `train`, another, or none."""
    names = [SPLIT.search(part) for part in (path.name, *reversed(path.parts[:-1]))]
    return next((name[1].lower() for name in names if name), "")
