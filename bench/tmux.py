"""The product in a tmux server of its own, as a person at a terminal meets it: keys, sizes, and what is shown."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.text import Text

from bench.picture import svg

PROGRAM = f"{sys.executable} -m sft_tui"
POLL_SECONDS = 0.3
SETTLED_SECONDS = 1.5
LIMIT = 900.0  # seconds for the longest wait: a training on a busy machine


class Tmux:
    """A tmux server of our own with one pane."""

    def __init__(self, folder: Path, kept: Path, size: tuple[int, int]) -> None:
        self._socket, self.folder, self.kept, self._size = f"sft-tui-screens-{os.getpid()}", folder, kept, size
        self.pressed = 0  # keys since the pane was opened, apart from what is typed

    def open(self, *arguments: str) -> None:
        """Starts the server with the app in its pane."""
        self._start(f"{PROGRAM} {' '.join(arguments)}; exec sh")

    def shell(self) -> None:
        """Starts the server with a shell, in which `sft-tui` is the app."""
        self._start(f"export PATH={Path(sys.executable).parent}:$PATH PS1='$ '; exec sh")

    def _start(self, command: str) -> None:
        columns, rows = map(str, self._size)
        # The folder is in the home of its user, whose cache has the models that this machine's user has.
        home, cache = self.folder.parent, Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
        if not (home / ".cache").exists():
            (home / ".cache").symlink_to(cache)
        command = f"export HOME={home} XDG_CACHE_HOME= LC_ALL=C.UTF-8 COLORTERM=truecolor; {command}"
        deadline = time.monotonic() + LIMIT
        while not self._run("list-sessions"):  # a server that was just killed takes a moment to exit
            if time.monotonic() > deadline:
                raise TimeoutError("tmux does not start")
            self._run(
                "-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, "-c", str(self.folder), command
            )
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Kills the server and all children of its pane."""
        self._run("kill-server")

    def press(self, *keys: str) -> None:
        """Presses keys, as tmux names them."""
        for key in keys:
            self.pressed += 1
            self._run("send-keys", key)
            time.sleep(POLL_SECONDS)

    def type(self, line: str) -> None:
        """Types a line into an empty screen, and enter."""
        self._run("send-keys", "-l", f"clear; {line}")
        self._run("send-keys", "Enter")
        time.sleep(POLL_SECONDS)

    def type_words(self, words: str) -> None:
        """Types words; each character counts as a key."""
        self.pressed += len(words)
        self._run("send-keys", "-l", words)
        time.sleep(POLL_SECONDS)

    def say(self, words: str) -> None:
        """Types words, and enter."""
        self._run("send-keys", "-l", words)
        self._run("send-keys", "Enter")

    def resize(self, size: tuple[int, int]) -> None:
        """Gives the terminal another size, and waits until its last line is drawn."""
        columns, rows = size
        self._run("resize-window", "-x", str(columns), "-y", str(rows))
        self.wait(until=lambda text: len(text.splitlines()) == rows and bool(text.splitlines()[-1].strip()))
        time.sleep(SETTLED_SECONDS)  # tmux shows a screen that is half drawn

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

    def keep(self, name: str, *words: str, until: Callable[[str], bool] | None = None, picture: bool = False) -> None:
        """Saves the screen once it has the words."""
        shown = self.wait(*words, until=until)
        text = "\n".join(line.rstrip() for line in Text.from_ansi(shown).plain.splitlines())
        (self.kept / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
        if picture:
            (self.kept / f"{name}.svg").write_text(svg(shown), encoding="utf-8")
        print(f"{name}: saved", flush=True)

    def _run(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout
