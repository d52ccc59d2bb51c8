"""The tests that the benchmark of a GPU runs: those that are marked `gpu`, by pytest."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests" / "engine"
FOLDER = TESTS / "gpu"  # each of its tests tries itself on the processor too
MARK = "mark.gpu"
ENDED = re.compile(r"^(tests/.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)  # as pytest -v prints a test
SUMMARY = re.compile(r"^=+ .*\b(?:passed|failed|error|errors|skipped)\b.* in [\d.]+", re.MULTILINE)


def command(device: str) -> list[str]:
    """What runs them; on the CPU, what tries those of the folder there."""
    wanted = "gpu" if device == "cuda" else "not gpu and not slow"
    options = ("-v", "--tb=short", "-rfE", "-W", "default", "-p", "no:cacheprovider", "-p", __name__, "-m", wanted)
    return [sys.executable, "-m", "pytest", *options, *map(str, _places(device))]


def pytest_runtest_logreport(report: Any) -> None:
    """As a plugin of pytest, prints at once why a test failed: the time may be over before pytest does."""
    if report.failed:
        print(f"\n{report.longreprtext}", flush=True)


def _places(device: str) -> list[Path]:
    """Where they are: other files would only be read to be left out."""
    if device == "cpu":
        return [FOLDER]
    files = (path for path in TESTS.rglob("test_*.py") if MARK in path.read_text("utf-8"))
    return [FOLDER, *sorted(path for path in files if path.parent != FOLDER)]


def outcome(log: str) -> str:
    """How many tests ended how, by what pytest printed so far, and those that failed; empty if none has ended."""
    found = Counter(match[2].lower() for match in ENDED.finditer(log))
    failed = [match[1].rpartition("::")[2] for match in ENDED.finditer(log) if match[2] in ("FAILED", "ERROR")]
    counts = ", ".join(f"{count} {how}" for how, count in found.items())
    cut = "" if SUMMARY.search(log) else ", the rest not in time"
    return f"{counts}{cut}{': ' if failed else ''}{', '.join(failed)}" if found else ""
