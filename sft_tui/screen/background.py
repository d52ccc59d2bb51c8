"""One of our own commands, run in the background: it can be ended at any time, and never delays the screen's exit."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence

from engine.contract.child_command import module_command
from engine.contract.config import FIELDS
from engine.contract.texts import LANGS, LANGUAGE, Lang, language, template
from sft_tui.options import variable

PROGRAM = module_command("sft_tui")
SETTINGS = {variable(name) for name in FIELDS}
LOCALES = {"en": "C.UTF-8", "zh": "zh_CN.UTF-8"}
LAST_LINES = 3


def _starts(key: str) -> tuple[str, ...]:
    """What a line of this text begins with, in any language."""
    return tuple(template(key, lang).partition("{")[0] for lang in LANGS)


ERROR_STARTS = ("Error: ", *_starts("app.error"))
NEXT_STARTS = tuple(start for key in ("next", "next_chat", "next_t5") for start in _starts(f"import.{key}"))
PATIENCE = 5.0  # seconds for an ended command to clean up
MOST_OUTPUT = 64 << 10  # bytes kept of its last output
Done = Callable[[int, str], None]


class Background:
    """A command in its own session; `done` is called in another thread with its exit code and output."""

    def __init__(self, arguments: Sequence[str], lang: Lang, done: Done, shown: str = "") -> None:
        """`shown` is the command as it is named to people."""
        self.ended, self.shown = False, shown  # `ended`: by `end`
        self._done = done
        # A file and not a pipe: the command can still print when no reader is left.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the command runs
        self._process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(lang),
        )
        threading.Thread(target=self._wait, daemon=True).start()

    def end(self) -> None:
        """Asks it to end, and kills what is left of it a little later, if this process still runs."""
        self.ended = True
        self._signal(signal.SIGTERM)
        late = threading.Timer(PATIENCE, self._signal, (signal.SIGKILL,))
        late.daemon = True
        late.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _wait(self) -> None:
        code = self._process.wait()
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - MOST_OUTPUT))
        printed = self._output.read().decode("utf-8", "replace")
        self._output.close()
        with contextlib.suppress(RuntimeError):  # the screen is gone
            self._done(code, printed)


def _environment(lang: Lang) -> dict[str, str]:
    """The environment in which a command uses the language of the screen, and no settings that the screen has not."""
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    if language() == lang:
        return own
    return {**own, LANGUAGE: lang, "LC_ALL": LOCALES[lang], "PYTHONUTF8": "1"}  # the locale need not be installed


def account(printed: str) -> list[str]:
    """The notice about a successful command: its lines, without examples and the next command."""
    return [line for line in printed.splitlines() if line.strip() and not line.startswith((" ", *NEXT_STARTS))]


def summary(printed: str) -> str:
    """The notice about a failed command: its output from the error on, or else its last lines."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    last = max(0, len(lines) - LAST_LINES)
    first = next((place for place, line in enumerate(lines) if line.startswith(ERROR_STARTS)), last)
    return " ".join(lines[first:])
