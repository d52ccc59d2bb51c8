"""Checks of what a run writes: the free space of each file system, and the folders, and what fixes them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Self

from engine.contract import exports
from engine.contract.config import RunConfig
from engine.contract.durable import free_bytes
from engine.contract.facts import DataFacts, Sizes
from engine.contract.files import broken_link, why_unwritable
from engine.contract.outputdir import OutputDir
from engine.contract.texts import Phrase
from sft_tui.preflight.declaration import Actions, CheckedRun, Group, Seen
from sft_tui.preflight.finding import Finding, sized
from sft_tui.preflight.fix import Open, Resume, Set
from sft_tui.text import size

EVENT_BYTES = 1024  # of the log per step, including readings of the machine
LOG_BYTES = 4 << 20  # of the log in addition
SLACK = 16 << 20  # in a checkpoint and the best model: headers, tokenizer, configuration


@dataclass(frozen=True)
class Store:
    """Size of the token store: bytes that the check has written for the run, and bytes that the run will write."""

    written: int = 0
    to_write: int = 0

    @classmethod
    def of(cls, data: DataFacts) -> Self:
        """The store according to the facts on data files."""
        stores = [facts.tokens.store for facts in data.read.values() if facts.tokens is not None]
        kept, new = (sum(store.bytes for store in stores if store.kept is kept) for kept in (True, False))
        return cls(kept, new)


@dataclass(frozen=True)
class FileSystem:
    """A file system that the run writes to, by one of its folders: the bytes to write, those free, and what for."""

    path: str
    setting: str
    need: int
    free: int
    items: tuple[Phrase, ...]


@dataclass(frozen=True)
class Blocked:
    """A folder that cannot be written, and why."""

    path: str
    setting: str
    why: str | Phrase


@dataclass(frozen=True)
class Output:
    """The output folder of a run, and the file that its best model is exported to."""

    folder: OutputDir
    export: str


SPACE = Group[FileSystem]("Disk and folders")
FOLDERS = Group[Blocked]("Disk and folders")
OUTPUT = Group[Output]("Disk and folders", "output_dir")


def writes(config: RunConfig, sizes: Sizes, weights: int, steps: int, store: Store) -> dict[str, int]:
    """The most bytes that the run holds at one time, by kind; `weights` are those of the files that it starts from.

    One checkpoint more than are kept, and one more for the best score: a new one is written before the old one is
    deleted. The same holds for the best model. What learns is stored in fp32; below adapters a model stays as it was.
    """
    adapted = bool(config.lora_rank)
    frozen = weights if adapted else 4 * (sizes.parameters - sizes.trained)
    best = frozen + 4 * sizes.trained + SLACK
    checkpoint = 4 * sizes.trained + sizes.optimizer_bytes + SLACK
    kept = min(config.keep_latest_n_ckp + 2, max(1, -(-steps // config.save_steps) + config.epochs) + 1)
    return {
        "checkpoints": kept * checkpoint + frozen,
        "best": (4 if config.export_state_dict else 2) * best,
        "log": LOG_BYTES + EVENT_BYTES * steps,
        "token store": store.to_write,
    }


def settings_of(config: RunConfig, logs: Path) -> dict[str, str]:
    """The folders that a run writes to, each with its setting."""
    export = config.export_state_dict
    exported = {str(Path(export).parent): "export_state_dict"} if export else {}
    return {**exported, config.output_dir: "output_dir", str(logs): "logs", config.token_store: "token_store"}


def blocked(config: RunConfig, logs: Path) -> Iterator[Blocked]:
    """The folders that cannot be written."""
    for path, setting in settings_of(config, logs).items():
        parent, link = _existing(Path(path)), broken_link(Path(path))
        if link is not None:
            why: str | Phrase = why_unwritable(Path(path), FileNotFoundError())
        elif not parent.is_dir():
            why = Phrase.of("why.not_a_folder", path=str(parent))
        elif not os.access(parent, os.W_OK | os.X_OK):
            why = Phrase("why.not_writable")
        else:
            continue
        yield Blocked(path, setting, why)


def unwritable(config: RunConfig, logs: Path) -> Iterator[Finding]:
    """The findings on folders that cannot be written."""
    for folder in blocked(config, logs):
        yield from FOLDERS.findings(folder, folder.setting)


def findings(config: RunConfig, need: Mapping[str, int], logs: Path, store: Store) -> Iterator[Finding]:
    """The findings on each file system that is written to."""
    places = {"checkpoints": config.output_dir, "best": config.output_dir, "log": str(logs)}
    places |= {"token store": config.token_store}
    settings, bad = settings_of(config, logs), {folder.path for folder in blocked(config, logs)}
    devices: dict[int, list[str]] = {}
    for part, path in places.items():
        if path not in bad:
            devices.setdefault(_existing(Path(path)).stat().st_dev, []).append(part)
    for parts in devices.values():
        path = places[parts[0]]
        total, free = sum(need[part] for part in parts), free_bytes(Path(path))
        found = FileSystem(path, settings[path], total, free, _items(need, parts, store))
        yield from SPACE.findings(found, found.setting)


def _items(need: Mapping[str, int], parts: list[str], store: Store) -> tuple[Phrase, ...]:
    """The items written to one file system."""
    found = [sized(part, size(need[part])) for part in parts if need[part]]
    if "token store" in parts and store.written:
        found.append(Phrase.of("item.written", item=sized("token store", size(store.written))))
    return tuple(found)


def _existing(path: Path) -> Path:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


# --- remedies


def elsewhere(finding: Finding, run: CheckedRun) -> Actions:
    """Use a folder in the home folder, if that is on another disk or the only usable one."""
    path, home = Path(str(finding.args["path"])), Path.home()
    other = home / "sft-tui" / path.name
    if not os.access(home, os.W_OK) or other == path:
        return ()
    if finding.code == "space_short":
        there = _existing(path)
        if there.stat().st_dev == home.stat().st_dev or free_bytes(home) <= free_bytes(there):
            return ()
    setting, look = finding.subject, run.check()
    if setting == "logs":
        return (replace(look, logs=str(other)),) if isinstance(look, Set) else ()
    return (run.check(**{setting: str(other)}),)


def open_it(finding: Finding, _run: CheckedRun) -> Actions:
    """Open that run."""
    return (Open(str(finding.args.get("run", ""))),)


def resume_it(finding: Finding, _run: CheckedRun) -> Actions:
    """Resume it."""
    return (Resume(str(finding.args.get("run", ""))),)


def start_over(finding: Finding, run: CheckedRun) -> Iterator[Actions]:
    """Use another folder; for an interrupted run also the same one, with its old contents in earlier/."""
    if run.start is not None and finding.code == "unfinished_run":
        yield (replace(run.start, fresh=True),)
    folder = run.config.output_dir.rstrip("/")
    yield (run.check(output_dir=next(f"{folder}_{n}" for n in count(2) if not os.path.lexists(f"{folder}_{n}"))),)


# --- checks


@SPACE.check("space_short", "error", remedy=elsewhere)
def _space_short(found: FileSystem) -> Iterator[Seen]:
    """What the run writes does not fit: checkpoints, best model, log, token store."""
    if found.need > found.free:
        sizes = {"need": size(found.need), "free": size(found.free), "short": size(found.need - found.free)}
        yield Seen({"path": found.path, "setting": found.setting, **sizes, "items": found.items})


@SPACE.check("disk", "ok")
def _disk(found: FileSystem) -> Iterator[Seen]:
    """What the run writes, and what is free."""
    if found.need <= found.free:
        yield Seen({"path": found.path, "need": size(found.need), "free": size(found.free), "items": found.items})


@FOLDERS.check("folder_unwritable", "error", remedy=elsewhere)
def _folder_unwritable(folder: Blocked) -> Iterator[Seen]:
    """A folder that the run writes to cannot be written or created."""
    yield Seen({"path": folder.path, "setting": folder.setting, "why": folder.why})


OUTPUT.error("busy", "Another run is using the output folder.", remedy=open_it, others=start_over)
OUTPUT.error("unfinished_run", "The output folder holds an interrupted run.", remedy=resume_it, others=start_over)


@OUTPUT.check("export_kept", "warning", subject="export_state_dict")
def _export_kept(output: Output) -> Iterator[Seen]:
    """The file to export the best model to is somebody else's."""
    if output.export and not exports.may_be_written(Path(output.export), output.folder):
        yield Seen({"path": output.export, "best": str(output.folder.best)})
