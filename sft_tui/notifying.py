"""Notices of runs to a command or an address of the user's own, sent by a process that nothing waits for.

Only the user's configuration and environment set where they go: a run, a preset or a folder may come from anybody.
`python -m sft_tui.notifying` sends the notice on its standard input.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from engine.contract.bounds import Longest, Name, read_as
from engine.contract.child_command import module_command
from engine.contract.files import read_linked, reason
from engine.contract.messages import InputError
from engine.contract.presets import user_folder
from sft_tui import text
from sft_tui.output import echo

VARIABLE = "SFT_TUI_NOTIFY"
MODULE = "sft_tui.notifying"
SECONDS = 20.0  # for a command or a server
SCHEMES = ("http", "https")
LONGEST_TEXT = 1000
MOST_INPUT = 64 << 10  # bytes; a pipe holds as much, so writing a notice never waits

Kind = Literal["ended", "stalled", "diverging", "disk", "test"]


@dataclass(frozen=True)
class Notice:
    """What is sent: as JSON to an address or on a command's input, its title and text as a command's last words."""

    kind: Kind
    run: Name
    status: Name  # finished, stopped, out_of_memory, …; running before the end
    title: Annotated[str, Longest(LONGEST_TEXT)]
    text: Annotated[str, Longest(LONGEST_TEXT)]
    folder: str = ""
    machine: Name = ""

    def harmless(self) -> "Notice":
        """The same with nothing that a terminal would interpret, and no longer than people read."""
        return replace(
            self,
            title=text.safe(self.title, 200),
            text=text.safe(self.text, LONGEST_TEXT - 10),
            folder=text.safe(self.folder, 1000),
            machine=socket.gethostname()[:100],
        )


def config_file() -> Path:
    """The user's file with a line such as `notify = "notify-send"`."""
    return user_folder().parent / "notify.toml"


def target(environment: Mapping[str, str] = os.environ) -> str:
    """The command or address that notices go to; empty if there is none. Raises InputError."""
    if VARIABLE in environment:
        return environment[VARIABLE].strip()
    path = config_file()
    if not path.is_absolute():  # without a home folder it would lie in the current one, which may be anybody's
        return ""
    try:
        found = tomllib.loads(read_linked(path, MOST_INPUT).decode("utf-8")).get("notify", "")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError("notify_unreadable", path=str(path), why=reason(error)) from None
    except ValueError as error:
        raise InputError("notify_unreadable", path=str(path), why=str(error)[:200]) from None
    if not isinstance(found, str):
        raise InputError("notify_unreadable", path=str(path), why='notify = "…"')
    return found.strip()


def is_address(where: str) -> bool:
    """Whether notices go to a server, and not to a command."""
    return "://" in where.split(maxsplit=1)[0]


def deliver(where: str, notice: Notice) -> None:
    """Sends a notice, within some seconds; raises InputError."""
    _post(where, notice) if is_address(where) else _run(where, notice)


def _host(address: str) -> str:
    """The host of an address; raises InputError, whose text does not have the rest: that may hold a password."""
    try:
        parts = urlsplit(address)
    except ValueError:
        raise InputError("notify_address") from None
    if parts.scheme not in SCHEMES:
        raise InputError("notify_scheme", scheme=parts.scheme)
    if not parts.hostname:
        raise InputError("notify_address")
    return parts.hostname


def _post(address: str, notice: Notice) -> None:
    import http.client  # which a supervisor does without
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_given: object) -> None:
            """Follows nothing: the user named where notices go."""

    host = _host(address)
    body = json.dumps(asdict(notice), ensure_ascii=False).encode()
    try:
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "sft-tui"}
        request = urllib.request.Request(address, body, headers, method="POST")
        with urllib.request.build_opener(NoRedirect).open(request, timeout=SECONDS):
            pass
    except urllib.error.HTTPError as error:
        raise InputError("notify_refused", host=host, status=error.code) from None
    except (http.client.InvalidURL, ValueError):
        raise InputError("notify_address") from None
    except (OSError, http.client.HTTPException) as error:
        why = str(getattr(error, "reason", "") or error)[:200]
        raise InputError("notify_unsent", host=host, why=why or type(error).__name__) from None


def _run(command: str, notice: Notice) -> None:
    program = command.split(maxsplit=1)[0]  # an option may be a password, and errors end up in the files of a run
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError("notify_command", command=program, why=str(error)) from None
    said = {f"SFT_TUI_NOTICE_{name.upper()}": value for name, value in asdict(notice).items()}
    try:
        process = subprocess.Popen(
            [*words, notice.title, notice.text],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **said},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise InputError("notify_command", command=program, why=why) from None
    try:
        process.communicate(json.dumps(asdict(notice), ensure_ascii=False).encode(), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise InputError("notify_slow", command=program, seconds=int(SECONDS)) from None
    if process.returncode:
        raise InputError("notify_code", command=program, code=process.returncode)


def begin(notice: Notice) -> "subprocess.Popen[bytes] | None":
    """Starts a process that sends a notice; returns at once. None if it could not be started."""
    try:
        process = subprocess.Popen(module_command(MODULE), stdin=subprocess.PIPE, start_new_session=True)
    except OSError:
        return None
    with contextlib.suppress(OSError), process.stdin or contextlib.nullcontext() as pipe:
        if pipe is not None:
            pipe.write(json.dumps(asdict(notice)).encode())
    return process


def main() -> int:
    """Sends the notice on standard input; returns 1 and prints why if it cannot be sent."""
    try:
        where = target()
        if where:
            deliver(where, read_as(Notice, json.loads(sys.stdin.buffer.read(MOST_INPUT))))
    except InputError as error:
        echo(error.message.text(), err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
