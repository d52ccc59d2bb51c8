"""What the launcher of this process was asked for, by its command line and the file of settings that it reads.

It may have started something else.
"""

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from engine.contract.files import read_whole
from engine.contract.messages import Message

ACCELERATE = ("accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli")
COUNTS = ("--num_processes", "--nproc_per_node")  # of accelerate and of torchrun; hyphens do as well
GENERATIONS = 4  # of parents that are asked
MOST_WORDS = 500  # of a command line
MOST_BYTES = 1 << 20  # of a file of settings


def alone(script: str, arguments: Sequence[str], batch: int, *, on_cpu: bool) -> Message | None:
    """What to say where this one process is all there is, and several were asked for; None where that is not so.

    accelerate starts one process where it is not told `--multi_gpu`, and says nothing of it. `batch` is the effective
    batch of one process.
    """
    asked = processes_asked(script, _parents())
    if asked < 2:
        return None
    words = shlex.join([script, *arguments])
    return Message.of(
        "launched_alone",
        asked=asked,
        batch=batch,
        wanted=asked * batch,
        several=f"{'ACCELERATE_USE_CPU=true ' * on_cpu}accelerate launch --multi_gpu --num_processes {asked} {words}",
        one=f"python {words}",
    )


def processes_asked(script: str, commands: Iterable[Sequence[str]]) -> int:
    """The number of processes that the first launcher of the script was asked for; 0 where none was asked for one."""
    name = Path(script).name
    for words in commands:
        places = [place for place, word in enumerate(words) if Path(word).name == name]
        before = words[: places[0]] if places else []
        count = _number(_value(before, COUNTS)) or _configured(before)
        if count:
            return count
    return 0


def _value(words: Sequence[str], options: Sequence[str]) -> str | None:
    """What one of these options is given; None where none is there. Hyphens in its name do as well as underscores."""
    names = {option.lstrip("-") for option in options}
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if word.startswith("-") and option.replace("-", "_").lstrip("_") in names:
            return value or (words[place + 1] if place + 1 < len(words) else "")
    return None


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _configured(words: Sequence[str]) -> int:
    """The number of processes in the file that accelerate takes its settings from; 0 where it takes none from there."""
    if not any(Path(word).name in ACCELERATE for word in words) or _value(words, COUNTS) is not None:
        return 0
    named = _value(words, ["--config_file"])
    if named is None and "--cpu" in words:  # then it does not look for the usual one
        return 0
    return _number(_settings(Path(named) if named else _usual_file()).get("num_processes"))


def _usual_file() -> Path:
    """Where `accelerate config` writes, as accelerate looks for it."""
    cache = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.path.expanduser(cache)) / "accelerate" / "default_config.yaml"


def _settings(file: Path) -> dict[str, Any]:
    import yaml  # JSON is YAML too

    try:
        found = yaml.safe_load(read_whole(file, MOST_BYTES))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parents() -> Iterator[list[str]]:
    """The command lines of the parents of this process, the nearest first."""
    with contextlib.suppress(psutil.Error, OSError):
        for parent in psutil.Process().parents()[:GENERATIONS]:
            with contextlib.suppress(psutil.Error, OSError):
                yield parent.cmdline()[:MOST_WORDS]
