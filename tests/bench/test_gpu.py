"""The GPU benchmark runs to its end on the CPU, with a table of the same lines whatever is missing."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import Bench, UnavailableError, measure, rate, reason, take
from bench.gpu_table import OURS, RESUME, SIDES, TESTS, losses, table, trained

ROOT = Path(__file__).parents[2]
LINES = 23


def walked(*options: str, limit: float) -> list[str]:
    """The lines of the table, without its head."""
    command = [sys.executable, "-m", "bench.gpu", "--device", "cpu", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == LINES, done.stdout
    return lines


def test_one_line_is_measured_and_the_others_say_why_they_are_not() -> None:
    measured = trained(SIDES[0].name, OURS)
    lines = walked("--only", measured, "--rows", "32", limit=240)
    (line,) = [line for line in lines if line.startswith(f"| {measured} |")]
    assert re.search(r"\| [1-9][\d,]* label tokens/s \| [1-9]\d\d \|", line), line
    assert all("not asked for" in other for other in lines if other is not line), lines


def test_without_time_every_line_is_printed_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "cpu", tmp_path, 512, time.monotonic())
    measure(bench, [])
    lines = list(table(bench.found, ""))[4:]
    assert len(lines) == LINES
    assert all("not begun: the time was over" in line for line in lines)


def test_what_fails_leaves_the_other_figures_and_the_end_of_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, "cpu", tmp_path, 512, time.monotonic() + 60)

    def fails(_: Path) -> dict[str, Any]:
        raise RuntimeError("line 1 of a log\nthe last line")

    take(bench, "first", fails)
    take(bench, "second", lambda _: {"memory": 5.0})
    assert bench.found.missing == {"first": "failed: the last line"}
    assert bench.found.figures == {"second": {"memory": 5.0}}
    printed = capfd.readouterr().err
    assert "line 1 of a log" in printed
    assert 'second: {"memory": 5.0}' in printed


@pytest.mark.slow
def test_the_whole_benchmark_runs_on_the_cpu() -> None:
    lines = walked("--minutes", "8", limit=540)
    assert not [line for line in lines if "failed" in line or "no figures" in line]
    assert "equal those of the uncut run" in next(line for line in lines if line.startswith(f"| {RESUME}"))


@pytest.mark.slow
def test_a_killed_run_is_resumed_and_compared_with_the_uncut_one() -> None:
    lines = walked("--only", losses(SIDES[1].name, "fp32"), RESUME, TESTS, limit=300)
    said = {name: next(line for line in lines if line.startswith(f"| {name}")) for name in (RESUME, TESTS)}
    assert "equal those of the uncut run" in said[RESUME]
    assert sum("not asked for" in line for line in lines) == LINES - 3


def test_reasons_are_short_and_say_what_was_cut() -> None:
    assert reason(TimeoutError("['a'] took long"), 59.8) == "cut after 60 s"
    assert reason(RuntimeError("log\n" + "x" * 999), 1) == f"failed: {'x' * 159}…"
    assert reason(UnavailableError("TRL is not installed"), 1) == "TRL is not installed"


def test_the_first_steps_do_not_count_for_speed() -> None:
    assert rate([1, 1, 30, 50], [100.0, 100.0, 2.0, 2.0]) == 20.0
    assert rate([30], [2.0]) == 15.0
    with pytest.raises(UnavailableError, match="one step"):
        rate([], [])
