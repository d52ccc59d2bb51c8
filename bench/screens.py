"""The screens in the docs: `python -m bench.screens FOLDER` walks through the demo in tmux and saves what it shows.

From an empty folder: open, take the demo, watch it train, leave, kill the tmux server, reopen, stop, resume, watch it
to its end, compare both runs. Each screen is a plain text file; each README shows one of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = f"{sys.executable} -m sft_tui"
SHOWN = {"README.md": "2-run", "README.zh.md": "zh-80x24-run"}
FENCE = "```text\n"
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
        """Returns the screen once it has all of the words; raises TimeoutError."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            shown = self._run("capture-pane", "-p")
            if all(word in shown for word in words) and (until is None or until(shown)):
                return shown
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"{words} did not appear:\n{self._run('capture-pane', '-p')}")

    def keep(self, name: str, *words: str, until: Callable[[str], bool] | None = None) -> None:
        """Saves the screen once it has the words."""
        shown = "\n".join(line.rstrip() for line in self.wait(*words, until=until).splitlines())
        (self._kept / f"{name}.txt").write_text(shown + "\n", encoding="utf-8")
        print(f"{name}: kept", flush=True)

    def _run(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout


def walk(tmux: Tmux) -> None:
    """Walks through the whole demo."""
    tmux.open()
    tmux.keep("1-launch", "Ready? demo", "✓ ready")
    tmux.press("Enter")
    tmux.keep(
        "2-run", "demo-pretrain-1 · running", until=lambda shown: "epoch 2/3" in shown or "Samples · BLEU" in shown
    )
    tmux.press("q")
    tmux.kill()
    tmux.open("attach")
    tmux.keep("3-opened-again", "demo-pretrain-1 · running")
    tmux.press("s")
    tmux.keep("4-asks", "y/n")
    tmux.press("y")
    tmux.keep("5-stopped", "! stopped", "saved")
    tmux.press("r")
    tmux.keep("6-resumed", "demo-pretrain-1 · running")
    tmux.keep("7-fine-tuned", "demo-1 · ✓ finished")  # a screen that only watches follows the demo into its second half
    tmux.press("l")
    tmux.wait("demo-pretrain-1")
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
    tmux.wait("demo-1")
    tmux.press("Enter")
    tmux.keep("zh-80x24-run", "demo-1 · ✓ 已完成")
    tmux.kill()


def show(readme: Path, screen: Path) -> None:
    """Replaces the first screen in `readme` with another one."""
    before, _, rest = readme.read_text().partition(FENCE)
    _, _, after = rest.partition("```\n")
    readme.write_text(f"{before}{FENCE}{screen.read_text()}```\n{after}")


def main(kept: Path) -> int:
    """Walks through it twice; the READMEs two folders above, if there are any, show one screen each."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for size, story in (((120, 40), walk), ((80, 24), small)):
            tmux = Tmux(Path(name), kept.absolute(), size)
            try:
                story(tmux)
            finally:
                tmux.kill()
    for name, screen in SHOWN.items():
        if (readme := kept.absolute().parents[1] / name).is_file():
            show(readme, kept / f"{screen}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
