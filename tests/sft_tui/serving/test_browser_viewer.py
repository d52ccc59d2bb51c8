"""The program behind a tab serves a browser only; test_browser_server.py has it behind a browser."""

import sys
from pathlib import Path

import psutil

from tests.processes import run, until


def test_it_says_what_starts_it(tmp_path: Path) -> None:
    result = run(sys.executable, "-P", "-m", "sft_tui.serving.browser_viewer", "logs", "en", "dark", folder=tmp_path)
    assert result.code == 1
    assert "sft-tui serve" in result.err


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    viewer = "import sys; from sft_tui.serving import browser_viewer; browser_viewer.end_with(int(sys.argv[1]))"
    server = "import os, subprocess, sys; print(subprocess.Popen([*sys.argv[1:], str(os.getpid())]).pid)"
    result = run(sys.executable, "-c", server, sys.executable, "-c", viewer, folder=tmp_path)
    (found,) = map(int, result.out.split())
    until(lambda: found not in psutil.pids() or psutil.Process(found).status() == psutil.STATUS_ZOMBIE, 30)
