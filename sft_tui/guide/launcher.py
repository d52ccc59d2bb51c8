"""What the launcher of this process was asked for, by its command line; it may have started something else."""

import contextlib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from engine.contract.messages import Message

COUNTS = ("--num_processes", "--nproc_per_node")  # of accelerate and of torchrun; hyphens do as well
GENERATIONS = 4  # of parents that are asked
MOST_WORDS = 500  # of a command line


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
    """The number of processes in the first command line that launches the script; 0 where none names one."""
    name = Path(script).name
    for words in commands:
        places = [place for place, word in enumerate(words) if Path(word).name == name]
        count = _count(words[: places[0]]) if places else 0
        if count:
            return count
    return 0


def _count(words: Sequence[str]) -> int:
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if option.replace("-", "_").lstrip("_") in {count.lstrip("-") for count in COUNTS}:
            value = value or (words[place + 1] if place + 1 < len(words) else "")
            return int(value) if value.isdecimal() and len(value) < 6 else 0
    return 0


def _parents() -> Iterator[list[str]]:
    """The command lines of the parents of this process, the nearest first."""
    with contextlib.suppress(psutil.Error, OSError):
        for parent in psutil.Process().parents()[:GENERATIONS]:
            with contextlib.suppress(psutil.Error, OSError):
                yield parent.cmdline()[:MOST_WORDS]
