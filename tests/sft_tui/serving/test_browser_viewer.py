"""The program behind a tab serves a browser only; test_browser_server.py has it behind a browser."""

import sys
from pathlib import Path

from tests.processes import run


def test_it_says_what_starts_it(tmp_path: Path) -> None:
    result = run(sys.executable, "-P", "-m", "sft_tui.serving.browser_viewer", "logs", "en", "dark", folder=tmp_path)
    assert result.code == 1
    assert "sft-tui serve" in result.err
