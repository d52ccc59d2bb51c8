"""Compares what a run will write with the free space, for each file system."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engine.contract.config import RunConfig
from engine.contract.durable import free_bytes
from engine.contract.files import broken_link, why_unwritable
from engine.contract.texts import Lang
from sft_tui.preflight.finding import Finding, item
from sft_tui.text import size

EVENT_BYTES = 1024  # of the log per step, including readings of the machine
LOG_BYTES = 4 << 20  # of the log in addition
SLACK = 16 << 20  # in a checkpoint and the best model: headers, tokenizer, configuration
ADAMW_STATE, ADAFACTOR_STATE = 2.0, 1 / 16  # bytes per byte of trained weights


@dataclass(frozen=True)
class Store:
    """Size of the token store: bytes that the check has written for the run, and bytes that the run will write."""

    written: int = 0
    to_write: int = 0

    @classmethod
    def of(cls, files: Iterable[Mapping[str, Any]]) -> Self:
        """The store according to the facts on data files."""
        sizes = [(facts["store_kept"], facts["store_bytes"]) for facts in files if "store_bytes" in facts]
        return cls(sum(size for kept, size in sizes if kept), sum(size for kept, size in sizes if not kept))


def writes(config: RunConfig, parameters: int, trained: int, steps: int, store: Store) -> dict[str, int]:
    """The most bytes that the run holds at one time, by kind.

    One checkpoint more than are kept, and one more for the best score: a new one is written before the old one is
    deleted. The same holds for the best model. All weights are stored in fp32.
    """
    state = ADAMW_STATE if config.optimizer == "adamw" else ADAFACTOR_STATE
    checkpoint = int(4 * trained * (1 + state)) + SLACK
    kept = min(config.keep_latest_n_ckp + 2, max(1, -(-steps // config.save_steps) + config.epochs) + 1)
    return {
        "checkpoints": kept * checkpoint + 4 * (parameters - trained),
        "best": (4 if config.export_state_dict else 2) * (4 * parameters + SLACK),
        "log": LOG_BYTES + EVENT_BYTES * steps,
        "token store": store.to_write,
    }


def settings_of(config: RunConfig, logs: Path) -> dict[str, str]:
    """The folders that a run writes to, each with its setting."""
    export = config.export_state_dict
    exported = {str(Path(export).parent): "export_state_dict"} if export else {}
    return {**exported, config.output_dir: "output_dir", str(logs): "logs", config.token_store: "token_store"}


def unwritable(config: RunConfig, logs: Path) -> Iterator[Finding]:
    """A finding for each folder that cannot be written."""
    for path, setting in settings_of(config, logs).items():
        parent, link = _existing(Path(path)), broken_link(Path(path))
        if link is not None:
            why = why_unwritable(Path(path), FileNotFoundError())
        elif not parent.is_dir():
            why = {"why": f"{parent} is not a folder", "why_zh": f"{parent} 不是目录"}
        elif not os.access(parent, os.W_OK | os.X_OK):
            why = {"why": "permission denied", "why_zh": "没有写入权限"}
        else:
            continue
        yield Finding("error", "folder_unwritable", setting, {"path": path, "setting": setting, **why})


def findings(config: RunConfig, need: Mapping[str, int], logs: Path, store: Store) -> Iterator[Finding]:
    """A finding for each file system that is written to."""
    places = {"checkpoints": config.output_dir, "best": config.output_dir, "log": str(logs)}
    places |= {"token store": config.token_store}
    settings = settings_of(config, logs)
    blocked = {str(finding.args["path"]) for finding in unwritable(config, logs)}
    devices: dict[int, list[str]] = {}
    for part, path in places.items():
        if path not in blocked:
            devices.setdefault(_existing(Path(path)).stat().st_dev, []).append(part)
    for parts in devices.values():
        path = places[parts[0]]
        total, free = sum(need[part] for part in parts), free_bytes(Path(path))
        args = {"path": path, "need": size(total), "free": size(free), **_items(need, parts, store)}
        if total > free:
            args |= {"short": size(total - free), "setting": settings[path]}
            yield Finding("error", "space_short", settings[path], args)
        else:
            yield Finding("ok", "disk", settings[path], args)


def _items(need: Mapping[str, int], parts: list[str], store: Store) -> dict[str, str]:
    """The items written to one file system, in both languages."""
    shown: dict[str, str] = {}
    languages: tuple[tuple[str, Lang], ...] = (("items", "en"), ("items_zh", "zh"))
    for key, lang in languages:
        texts = [f"{item(part, lang)} {size(need[part])}" for part in parts if need[part]]
        if "token store" in parts and store.written:
            there = "（已写入）" if lang == "zh" else " (written)"
            texts.append(f"{item('token store', lang)} {size(store.written)}{there}")
        shown[key] = ("、" if lang == "zh" else ", ").join(texts)
    return shown


def _existing(path: Path) -> Path:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place
