"""Checks of what a command depends on: a working folder that exists, and a standard output that can be written."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui.output import echo


def require_working_folder() -> None:
    """Raises InputError if the working folder was removed."""
    try:
        os.getcwd()
    except OSError:
        raise InputError("working_folder_gone") from None


@contextlib.contextmanager
def report_unwritable_output(lang: Lang) -> Iterator[None]:
    """Reports on standard error that standard output cannot be written, and exits with 1; silent for a closed pipe."""
    error: OSError | None = None
    try:
        yield
    except OSError as raised:  # raised at once if Python does not buffer, or for a long text
        if not _is_unwritable():
            raise
        error = raised
    finally:
        error = _last_write() or error
        if error is not None:
            with contextlib.suppress(OSError):
                if error.errno != errno.EPIPE:
                    why = say("app.stdout_unwritable", lang, why=error.strerror or str(error))
                    echo(say("app.error", lang, text=why), err=True)
            raise SystemExit(1)


def _is_unwritable() -> bool:
    """Whether the error is that standard output cannot be written."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except (OSError, ValueError, AttributeError):
        return True
    return False


def _last_write() -> OSError | None:
    """Flushes standard output; returns the error if that fails, and discards the buffered text."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it exits
        return error
    except ValueError:  # closed
        return None
    return None
