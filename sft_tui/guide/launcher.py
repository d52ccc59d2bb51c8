"""How many processes the launcher of this process was asked for, by its command line and its settings file.

It may have started a different number.
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
COUNTS = ("--num_processes", "--nproc_per_node")  # of accelerate and of torchrun; also accepted with hyphens
GENERATIONS = 4  # of parent processes that are examined
MOST_WORDS = 500  # of a command line
MOST_BYTES = 1 << 20  # of a settings file


def alone(script: str, arguments: Sequence[str], batch: int, *, on_cpu: bool) -> Message | None:
    """The warning if this is the only process although several were asked for; None otherwise.

    Without `--multi_gpu`, accelerate starts one process and does not report it. `batch` is the effective batch of one
    process.
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
    """The number of processes that the nearest launcher of the script was asked for; 0 if no number was given."""
    name = Path(script).name
    for words in commands:
        places = [place for place, word in enumerate(words) if Path(word).name == name]
        before = words[: places[0]] if places else []
        count = _number(_value(before, COUNTS)) or _configured(before)
        if count:
            return count
    return 0


def _value(words: Sequence[str], options: Sequence[str]) -> str | None:
    """The value of one of these options, also spelt with hyphens for underscores; None if none of them is given."""
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
    """The number of processes in the settings file that accelerate reads; 0 if it reads none."""
    if not any(Path(word).name in ACCELERATE for word in words) or _value(words, COUNTS) is not None:
        return 0
    named = _value(words, ["--config_file"])
    if named is None and "--cpu" in words:  # then accelerate does not read the default file
        return 0
    return _number(_settings(Path(named) if named else _usual_file()).get("num_processes"))


def _usual_file() -> Path:
    """The file that `accelerate config` writes, found the way accelerate finds it."""
    cache = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.path.expanduser(cache)) / "accelerate" / "default_config.yaml"


def _settings(file: Path) -> dict[str, Any]:
    import yaml  # JSON is also YAML

    try:
        found = yaml.safe_load(read_whole(file, MOST_BYTES))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parents() -> Iterator[list[str]]:
    """The command lines of the parents of this process, nearest first."""
    with contextlib.suppress(psutil.Error, OSError):
        for parent in psutil.Process().parents()[:GENERATIONS]:
            with contextlib.suppress(psutil.Error, OSError):
                yield parent.cmdline()[:MOST_WORDS]
