"""The GPU benchmark runs to its end on the CPU, with a table of the same lines whatever is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import UnavailableError, rate, reason
from bench.gpu_table import RESUME, SIDES, TESTS, losses

ROOT = Path(__file__).parents[2]
LINES = 22


def walked(*options: str, limit: float) -> list[str]:
    """The lines of the table, without its head."""
    command = [sys.executable, "-m", "bench.gpu", "--device", "cpu", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == LINES, done.stdout
    return lines


def test_a_benchmark_without_time_says_so_in_each_line_and_ends() -> None:
    lines = walked("--minutes", "0.1", limit=240)
    assert all("cut after" in line or "the time was over" in line for line in lines), lines


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
