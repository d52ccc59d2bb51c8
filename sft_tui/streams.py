"""What a command needs to say anything: a folder to work in, and a standard output that takes what it says."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from engine.contract.messages import InputError, Lang
from sft_tui.locale import say
from sft_tui.output import echo


def require_working_folder() -> None:
    """Raises InputError where the folder that the command was called in was removed."""
    try:
        os.getcwd()
    except OSError:
        raise InputError("working_folder_gone") from None


@contextlib.contextmanager
def full_output_in_words(lang: Lang) -> Iterator[None]:
    """Says on standard error that standard output took no more, and ends with 1; a closed pipe ends without a word."""
    error: OSError | None = None
    try:
        yield
    except OSError as raised:  # at once, where Python keeps nothing back or a text is long
        if not _takes_no_more():
            raise
        error = raised
    finally:
        error = _last_write() or error
        if error is not None:
            with contextlib.suppress(OSError):
                if error.errno != errno.EPIPE:
                    why = say("stdout_unwritable", lang, why=error.strerror or str(error))
                    echo(say("error", lang, text=why), err=True)
            raise SystemExit(1)


def _takes_no_more() -> bool:
    """Whether standard output is what cannot be written."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except (OSError, ValueError, AttributeError):
        return True
    return False


def _last_write() -> OSError | None:
    """Writes what standard output still holds; the error where it cannot be written, which is then forgotten."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        return error
    except ValueError:  # closed
        return None
    return None
