"""The program behind a tab serves a browser only; test_browser_server.py has it behind a browser."""

import signal
import sys
from pathlib import Path

from tests.processes import gone, run, until


def test_it_says_what_starts_it(tmp_path: Path) -> None:
    command = (sys.executable, "-P", "-m", "sft_tui.serving.browser_viewer", "logs", "en", "dark", "1")
    result = run(*command, folder=tmp_path)
    assert result.code == 1
    assert "sft-tui serve" in result.err


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    viewer = "import sys; from sft_tui.serving import browser_viewer; browser_viewer.end_with(int(sys.argv[1]))"
    server = "import os, subprocess, sys; print(subprocess.Popen([*sys.argv[1:], str(os.getpid())]).pid)"
    result = run(sys.executable, "-c", server, sys.executable, "-c", viewer, folder=tmp_path)
    (found,) = map(int, result.out.split())
    until(lambda: gone(found))


def test_it_ends_though_the_server_was_gone_before_it_began(tmp_path: Path) -> None:
    program = (
        "import time; from sft_tui.serving import browser_viewer as viewer; viewer.show = lambda _: time.sleep(60);"
        " viewer.main('logs', 'en', 'dark', '999999999')"
    )
    env = {"TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}
    assert run(sys.executable, "-c", program, folder=tmp_path, env=env).code == -signal.SIGTERM
