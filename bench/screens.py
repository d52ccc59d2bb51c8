"""The screens in the docs: `python -m bench.screens FOLDER` walks through the demo in tmux and saves what it shows.

From an empty folder: open, choose the demo, watch it train, leave, kill the tmux server, reopen, stop, resume, watch it
to its end, compare both runs. Each screen is saved as plain text; those that the READMEs show also as pictures.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.text import Text

from bench.picture import svg

PROGRAM = f"{sys.executable} -m sft_tui"
SHOWN = ("2-run", "zh-80x24-run")  # by README.md and README.zh.md
POLL_SECONDS = 0.3
LIMIT = 420.0  # seconds for the longest wait: a training on a busy machine


class Tmux:
    """A tmux server of our own with one pane."""

    def __init__(self, folder: Path, kept: Path, size: tuple[int, int]) -> None:
        self._socket, self._folder, self._kept, self._size = f"sft-tui-screens-{os.getpid()}", folder, kept, size

    def open(self, *arguments: str) -> None:
        """Starts the server with the app in its pane."""
        columns, rows = map(str, self._size)
        command = f"env LC_ALL=C.UTF-8 COLORTERM=truecolor {PROGRAM} {' '.join(arguments)}; exec sh"
        deadline = time.monotonic() + LIMIT
        while not self._run("list-sessions"):  # a server that was just killed takes a moment to exit
            if time.monotonic() > deadline:
                raise TimeoutError("tmux does not start")
            self._run(
                "-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, "-c", str(self._folder), command
            )
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Kills the server and all children of its pane."""
        self._run("kill-server")

    def press(self, *keys: str) -> None:
        """Presses keys, as tmux names them."""
        for key in keys:
            self._run("send-keys", key)
            time.sleep(POLL_SECONDS)

    def wait(self, *words: str, until: Callable[[str], bool] | None = None) -> str:
        """Returns the screen, with escape sequences, once it has all of the words; raises TimeoutError."""
        deadline, text = time.monotonic() + LIMIT, ""
        while time.monotonic() < deadline:
            shown = self._run("capture-pane", "-e", "-p")
            text = Text.from_ansi(shown).plain
            if all(word in text for word in words) and (until is None or until(text)):
                return shown
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"{words} did not appear:\n{text}")

    def keep(self, name: str, *words: str, until: Callable[[str], bool] | None = None) -> None:
        """Saves the screen once it has the words."""
        shown = self.wait(*words, until=until)
        text = "\n".join(line.rstrip() for line in Text.from_ansi(shown).plain.splitlines())
        (self._kept / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
        if name in SHOWN:
            (self._kept / f"{name}.svg").write_text(svg(shown), encoding="utf-8")
        print(f"{name}: saved", flush=True)

    def _run(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout


def half_done(shown: str) -> bool:
    """Whether the bar of the run is past its middle."""
    share = re.search(r"run [━─]+ +(\d+) %", shown)
    return share is not None and int(share[1]) >= 55


def walk(tmux: Tmux) -> None:
    """Walks through the whole demo."""
    tmux.open()
    tmux.keep("1-launch", "Ready? demo", "✓ ready")
    tmux.press("Enter")
    tmux.keep("2-run", "demo-t5-pretrain-1 · running", "Samples · BLEU", until=half_done)
    tmux.press("q")
    tmux.kill()
    tmux.open("attach")
    tmux.keep("3-opened-again", "demo-t5-pretrain-1 · running")
    tmux.press("s")
    tmux.keep("4-asks", "y/n")
    tmux.press("y")
    tmux.keep("5-stopped", "! stopped", "saved")
    tmux.press("r")
    tmux.keep("6-resumed", "demo-t5-pretrain-1 · running")
    tmux.keep(
        "7-fine-tuned", "demo-t5-1 · ✓ finished"
    )  # a screen that only watches follows the demo into its second half
    tmux.press("l")
    tmux.wait("demo-t5-pretrain-1")
    tmux.press("Space", "Down", "Space")
    tmux.keep("8-compared", "What differs", "! learn_rate")
    tmux.press("?")
    tmux.keep("9-help", "Keys")
    tmux.kill()


def small(tmux: Tmux) -> None:
    """The same runs in Chinese on a small terminal."""
    tmux.open("--lang", "zh")
    tmux.keep("zh-80x24-launch", "✗ 4")
    tmux.press("l")
    tmux.wait("demo-t5-1")
    tmux.press("Enter")
    tmux.keep("zh-80x24-run", "demo-t5-1 · ✓ 已完成")
    tmux.kill()


def main(kept: Path) -> int:
    """Walks through the demo twice, in English on a large terminal and in Chinese on a small one."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for size, story in (((120, 40), walk), ((80, 24), small)):
            tmux = Tmux(Path(name), kept.absolute(), size)
            try:
                story(tmux)
            finally:
                tmux.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
