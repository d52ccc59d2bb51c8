"""What the chat benchmark has measured: each measurement is a line of a file at once, from which a later call resumes.

The first line says what the others were measured on and with; a file that says anything else is kept under another
name, and so is one that is complete.
"""

import json
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """All measurements, by name and turn, and why the others of this call failed."""

    file: Path
    taken: dict[str, dict[int, Figures]] = field(default_factory=dict)
    failed: dict[str, dict[int, str]] = field(default_factory=dict)

    @classmethod
    def resumed(cls, file: Path, about: dict[str, str]) -> "Found":
        """What `file` holds, if it is `about` this; if not, an empty beginning in its place."""
        found = cls(file)
        lines = _lines(file)
        if lines and lines[0] == about:
            for line in lines[1:]:
                found.taken.setdefault(line["name"], {})[line["turn"]] = line["figures"]
            return found
        found.put_away()
        file.parent.mkdir(parents=True, exist_ok=True)
        found.write(about)
        return found

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line to the file."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line, ensure_ascii=False)}\n")

    def take(self, name: str, turn: int, measured: Callable[[], Figures]) -> bool:
        """Measures it, unless that was done; False if that fails, which stops nothing else."""
        if turn in self.taken.get(name, {}):
            return True
        try:
            figures = measured()
        except Exception as error:  # of any kind: hours of figures of others must not be lost
            self.failed.setdefault(name, {})[turn] = f"{type(error).__name__}: {error}"
            return False
        self.taken.setdefault(name, {})[turn] = figures
        self.write({"name": name, "turn": turn, "figures": figures})
        return True

    def values(self, name: str, what: str) -> dict[int, float]:
        """A figure in each turn that has it."""
        return {turn: float(figures[what]) for turn, figures in sorted(self.taken.get(name, {}).items())}

    def median(self, name: str, what: str) -> float:
        """The median of a figure over the turns."""
        return statistics.median(self.values(name, what).values())

    def over(self, what: str, one: str, other: str) -> list[float]:
        """The ratios of a figure in the turns that both have."""
        ones, others = self.values(one, what), self.values(other, what)
        return [ones[turn] / others[turn] for turn in ones if turn in others]

    def put_away(self) -> Path | None:
        """Renames the file by the time of its last measurement; None if it does not exist."""
        with suppress(FileNotFoundError):
            stamp = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(self.file.stat().st_mtime))
            return self.file.rename(self.file.with_name(f"{self.file.stem}-{stamp}{self.file.suffix}"))
        return None


def _lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file, from which a half one, as a killed call may leave at its end, is removed."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
