"""What a run will write, file system by file system, against what is free there."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.rundir import free_bytes
from sft_tui.preflight.finding import Finding
from sft_tui.text import size

EVENT_BYTES = 1024  # of the log for each step, readings of the machine included
LOG_BYTES = 4 << 20  # of the log besides
SLACK = 16 << 20  # of a checkpoint and of the best model: headers, tokenizer, configuration
ADAMW_STATE, ADAFACTOR_STATE = 2.0, 1 / 16  # bytes for each byte of trained weights


def writes(config: RunConfig, parameters: int, trained: int, steps: int) -> dict[str, int]:
    """Bytes that the run holds at most at one time, by what they are.

    One checkpoint more than are kept, and one more for that of the best score: the new one is written before the old
    one goes. Likewise the best model. All weights are stored in fp32.
    """
    state = ADAMW_STATE if config.optimizer == "adamw" else ADAFACTOR_STATE
    checkpoint = int(4 * trained * (1 + state)) + SLACK
    kept = min(config.keep_latest_n_ckp + 2, max(1, -(-steps // config.save_steps) + config.epochs) + 1)
    return {
        "checkpoints": kept * checkpoint + 4 * (parameters - trained),
        "best": 2 * (4 * parameters + SLACK),
        "log": LOG_BYTES + EVENT_BYTES * steps,
    }


def findings(config: RunConfig, need: Mapping[str, int], logs: Path) -> Iterator[Finding]:
    """A finding for each file system, and one for each folder that cannot be written."""
    places = {"checkpoints": config.output_dir, "best": config.output_dir, "log": str(logs)}
    settings = {config.output_dir: "output_dir", str(logs): "logs", config.token_store: "token_store"}
    devices: dict[int, list[str]] = {}
    blocked = set()
    for path, setting in settings.items():
        parent = _existing(Path(path))
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            why = "Permission denied" if parent.is_dir() else f"{parent} is not a folder"
            blocked.add(path)
            yield Finding("error", "folder_unwritable", setting, {"path": path, "why": why, "setting": setting})
    for part, path in places.items():
        if path not in blocked:
            devices.setdefault(_existing(Path(path)).stat().st_dev, []).append(part)
    for parts in devices.values():
        path = places[parts[0]]
        total, free = sum(need[part] for part in parts), free_bytes(Path(path))
        items = ", ".join(f"{part} {size(need[part])}" for part in parts)
        args = {"path": path, "need": size(total), "free": size(free), "items": items}
        if total > free:
            args |= {"short": size(total - free), "setting": settings[path]}
            yield Finding("error", "space_short", settings[path], args)
        else:
            yield Finding("ok", "disk", settings[path], args)


def _existing(path: Path) -> Path:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place
