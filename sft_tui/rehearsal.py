"""The rehearsal of a run, carried out in a temporary folder, and its results, kept for the run."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract import config as settings
from engine.contract import events
from engine.contract.config import RunConfig
from engine.contract.durable import read_json, write_json
from engine.contract.events import event_from_json, event_to_json
from engine.contract.files import STAGED, read_end
from engine.contract.locks import is_locked
from engine.contract.messages import InputError
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.contract.texts import Lang, say
from sft_tui import runs, starting
from sft_tui.following import Leaving, ended_in_order
from sft_tui.text import duration, size

FOLDER = f"{STAGED}rehearsal-"
FOLDER_NAME = re.compile(re.escape(FOLDER) + r"[a-z0-9_]{8}")  # as tempfile names it
KEPT = "rehearsals"  # folder next to the runs' logs
POLL_SECONDS = 0.1
LAST_BYTES = 4096  # read of an output to find its last line
END_SECONDS = 20.0  # time for a rehearsal to end when its viewer leaves
# Settings that do not affect the memory and time of a step.
NOT_MEASURED = {
    "epochs", "learn_rate", "div_factor", "warmup_steps", "warmup_ratio", "weight_decay", "max_grad_norm", "seed",
    "logging_steps", "save_steps", "keep_latest_n_ckp", "hang_seconds", "sample_rows", "test_file", "token_store",
    "output_dir", "num_processes", "export_state_dict", "best_by", "eval_on_start",
}  # fmt: skip
FILES = ("train_file", "validation_file", "tokenizer", "pretrained_model")
Progress = Callable[[events.Phase], None]


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found, and when (seconds since 1970)."""

    at: float
    found: events.Rehearsed

    def seconds(self, config: RunConfig, steps_total: int) -> tuple[float, float, float]:
        """Expected, least and greatest seconds for a run of this many steps."""
        saves = steps_total // config.save_steps + config.epochs
        saving = saves * self.found.seconds_save
        scored = config.epochs + (config.eval_on_start == "yes")
        pairs = zip(self.found.seconds_step, self.found.seconds_evaluation, strict=True)
        expected, least, most = (steps_total * step + scored * score + saving for step, score in pairs)
        return expected, least, most


def key_of(config: RunConfig, processes: int) -> str:
    """The key of what must be the same for a rehearsal to apply to a run: settings, files, processes, machine."""
    values = {name: value for name, value in settings.to_json(config).items() if name not in NOT_MEASURED}
    files = {name: _stamps(Path(str(getattr(config, name)))) for name in FILES if getattr(config, name)}
    about = {"settings": values, "files": files, "processes": processes, "machine": platform.node()}
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:  # other GPUs have other memory
        about["gpus"] = visible
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time of a file, or of every file in a folder."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:
        return []


def recorded(logs: Path, config: RunConfig, processes: int) -> Rehearsal | None:
    """The result of the newest rehearsal that applies to the run; None if there was none."""
    kept = read_json(logs / KEPT / f"{key_of(config, processes)}.json")
    value, at = kept.get("found"), kept.get("at")
    if not isinstance(value, dict) or not isinstance(at, int | float):
        return None
    found = event_from_json(str(value.pop("kind", "")), value)
    if not isinstance(found, events.Rehearsed) or found.micro_batch_tokens < 1:
        return None
    return Rehearsal(float(at), found) if len(found.seconds_step) == len(found.seconds_evaluation) == 3 else None


def keep(logs: Path, config: RunConfig, processes: int, found: events.Rehearsed) -> Rehearsal:
    """Saves the result of a rehearsal for the runs that it applies to; a failed write is ignored."""
    rehearsal = Rehearsal(time.time(), found)
    folder = logs / KEPT
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{key_of(config, processes)}.json"
        write_json(path, {"at": rehearsal.at, "found": event_to_json(found)}, durable=False)
    return rehearsal


def applied(
    logs: Path, config: RunConfig, processes: int, given: Mapping[str, Any]
) -> tuple[RunConfig, Rehearsal | None]:
    """The settings with the budget found by a rehearsal, unless a budget was given; and that rehearsal."""
    rehearsal = recorded(logs, config, processes)
    if rehearsal is None or "micro_batch_tokens" in given:
        return config, rehearsal
    return replace(config, micro_batch_tokens=rehearsal.found.micro_batch_tokens), rehearsal


def carry_out(record: RunRecord, memory_limit: int, progress: Progress) -> events.Rehearsed:
    """Rehearses a planned run and leaves nothing behind; raises InputError with the reason if the rehearsal fails."""
    config = record.run_config()
    place = _existing(Path(config.output_dir))
    _remove_leftovers(place)
    try:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=place))
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError("folder_unwritable", path=str(place), why=why, setting="output_dir") from None
    values = {**record.config, "output_dir": str(folder / "model")}
    rehearsed = replace(record, job="rehearse", config=values, memory_limit=memory_limit)
    try:
        with ended_in_order(signal.SIGINT) as leaving:  # its result would have no reader
            with leaving.held():
                started = starting.start(folder / "logs", rehearsed)
            return _followed(started, progress, leaving)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _existing(path: Path) -> Path:
    """The folder itself, or its nearest existing parent, which is on the same file system."""
    place = path.absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _remove_leftovers(place: Path) -> None:
    """Removes what is left of rehearsals whose viewer was killed."""
    for folder in place.glob(f"{FOLDER}*"):
        if FOLDER_NAME.fullmatch(folder.name) and not any(is_locked(run) for run in (folder / "logs").glob("*")):
            shutil.rmtree(folder, ignore_errors=True)


def _followed(started: starting.Started, progress: Progress, leaving: Leaving) -> events.Rehearsed:
    """Waits for the result of the rehearsal; raises InputError. Anything that ends this also ends the rehearsal."""
    reader = EventReader(started.run_dir.events)
    found: events.Rehearsed | None = None
    end: events.RunEnded | None = None
    try:
        while True:
            leaving.check()
            over = started.supervisor.poll() is not None
            for record in reader.poll():
                match record.event:
                    case events.Phase() as phase:
                        progress(phase)
                    case events.Rehearsed() as event:
                        found = event
                    case events.RunEnded() as event:
                        end = event
            if over:
                return _outcome(started.run_dir, found, end)
            time.sleep(POLL_SECONDS)
    finally:
        with leaving.held():
            _end(started)


def _outcome(run_dir: RunDir, found: events.Rehearsed | None, end: events.RunEnded | None) -> events.Rehearsed:
    if found is not None and end is not None and end.exit_code == 0:
        return found
    if end is not None and end.reason in ("refused", "busy"):
        raise InputError(end.message.code, **end.message.args)
    why = end.message.what() if end is not None else _last_line(run_dir.supervisor_output)
    raise InputError("rehearsal_failed", why=why)


def _last_line(path: Path) -> str:
    try:
        lines = read_end(path, LAST_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def _end(started: starting.Started) -> None:
    if started.supervisor.poll() is None:
        with contextlib.suppress(InputError):
            runs.ask(started.run_dir, "now")
        try:
            started.supervisor.wait(END_SECONDS)
        except Exception:  # TimeoutExpired: nothing may be left behind
            started.supervisor.kill()
            started.supervisor.wait()


def lines(rehearsal: Rehearsal, config: RunConfig, steps_total: int, lang: Lang) -> Iterator[str]:
    """The result of a rehearsal, as lines."""
    found = rehearsal.found
    peaks = " + ".join(size(peak) for peak in found.peak_memory)
    yield say(
        "app.rehearsed_memory", lang, peaks=peaks, budget=found.micro_batch_tokens, limit=size(found.memory_limit)
    )
    if any(found.gpu_memory):
        yield say("app.rehearsed_gpu", lang, peaks=" + ".join(size(peak) for peak in found.gpu_memory))
    if found.micro_batch_tokens < found.micro_batch_tokens_asked:
        asked = found.micro_batch_tokens_asked
        yield say("app.rehearsed_budget", lang, budget=found.micro_batch_tokens, asked=asked)
    elif found.micro_batch_tokens > found.micro_batch_tokens_asked:
        asked = found.micro_batch_tokens_asked
        yield say("app.rehearsed_larger", lang, budget=found.micro_batch_tokens, asked=asked)
    steps = dict(zip(("expected", "least", "most"), map(seconds_text, found.seconds_step), strict=True))
    yield say("app.rehearsed_step", lang, steps=found.steps_timed, **steps)
    saving = {"size": size(found.checkpoint_bytes), "time": seconds_text(found.seconds_save)}
    yield say("app.rehearsed_checkpoint", lang, **saving)
    yield say("app.rehearsed_run", lang, steps=steps_total, **estimate(rehearsal, config, steps_total))


def estimate(rehearsal: Rehearsal, config: RunConfig, steps_total: int) -> dict[str, str]:
    """The expected, least and greatest duration of the run, and its end if it starts now, as text."""
    seconds = rehearsal.seconds(config, steps_total)
    shown = dict(zip(("expected", "least", "most"), map(duration, seconds), strict=True))
    return {**shown, "when": time.strftime("%m-%d %H:%M", time.localtime(time.time() + seconds[0]))}


def seconds_text(seconds: float) -> str:
    """Seconds of one step, with decimals below ten."""
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def to_json(rehearsal: Rehearsal, config: RunConfig, steps_total: int) -> dict[str, Any]:
    """The result as plain values; seconds are expected, least and greatest."""
    seconds = [round(value, 3) for value in rehearsal.seconds(config, steps_total)]
    return {**dataclasses.asdict(rehearsal.found), "steps_total": steps_total, "seconds_run": seconds}
