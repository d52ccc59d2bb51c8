"""A conversation at the terminal: turn after turn, with replies as they are generated."""

import contextlib
import locale
import os
import shutil
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from engine.contract.conversing import LONGEST_TURN, Replied, Reset, System, Undo
from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui.cli.common import print_error
from sft_tui.conversation import Conversation
from sft_tui.output import echo, echo_piece
from sft_tui.text import safe
from sft_tui.wrapping import wrap

PROMPT = "> "
LONGEST_LINE = 4 * LONGEST_TURN  # bytes


def lines_of(file: BinaryIO) -> Iterator[str]:
    """The turns of a script: every line that is not blank."""
    while line := file.readline(LONGEST_LINE):
        turn = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if turn.strip():
            yield turn


def chat(conversation: Conversation, model: str, lang: Lang) -> None:
    """Holds the conversation until the user ends it with Ctrl-D; raises InputError if the model's process ends."""
    edit_as_utf8()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, by which `input` edits its line

    tell(say("reply.opened", lang, model=safe(str(Path(model)), 200)))
    while True:
        try:
            typed = input(PROMPT)
        except KeyboardInterrupt:
            echo()
            tell(say("reply.to_end", lang))
            continue
        except EOFError:
            echo()
            return
        if not typed.strip():
            continue
        try:
            if typed.startswith("/"):
                command(conversation, typed, lang)
            else:
                answer(conversation, typed, lang)
        except InputError as error:
            if not conversation.alive:
                raise
            print_error(error, lang)


def tell(said: str) -> None:
    """Prints what is not a reply, without breaking words at the edge of the terminal."""
    columns = shutil.get_terminal_size().columns
    for line in said.splitlines():
        echo("\n".join(wrap(line, columns)))


def edit_as_utf8() -> None:
    """Has lines edited as Python reads them, as UTF-8, if the environment names a locale that is not installed.

    The library that edits them would take the bytes of a Chinese character for commands.
    """
    try:
        locale.setlocale(locale.LC_CTYPE, "")
        coding = locale.nl_langinfo(locale.CODESET)
    except locale.Error:
        coding = ""
    if coding != "UTF-8" and sys.stdin.encoding.lower() == "utf-8":
        os.environ["LC_ALL"] = "C.UTF-8"


def answer(conversation: Conversation, typed: str, lang: Lang) -> None:
    """Prints the reply as it comes, until its end or the user's Ctrl-C; raises InputError."""
    replied: Replied | None = None
    with stopping(conversation):
        for spoken in conversation.say(typed):
            if isinstance(spoken, Replied):
                replied = spoken
            else:
                echo_piece(spoken.text)
    echo()
    for note in notes(replied, lang) if replied else ():
        tell(note)


def notes(replied: Replied, lang: Lang) -> Iterator[str]:
    """What the user should know of a reply, apart from its text."""
    if replied.ended != "end":
        yield say(f"reply.{replied.ended}", lang, tokens=replied.tokens)
    if replied.left_out:
        yield say("reply.left_out", lang, turns=replied.left_out)
    if replied.cut:
        yield say("reply.cut", lang, tokens=replied.prompt_tokens)


@contextlib.contextmanager
def stopping(conversation: Conversation) -> Iterator[None]:
    """Has a Ctrl-C stop the reply under way, and a second one what it usually does."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        conversation.stop()
        signal.signal(signal.SIGINT, usual)

    usual = signal.signal(signal.SIGINT, stop)
    try:
        with without_marks():
            yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextlib.contextmanager
def without_marks() -> Iterator[None]:
    """Keeps the terminal from printing `^C` into a reply."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    changed = [*before[:3], before[3] & ~termios.ECHOCTL, *before[4:]]
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def command(conversation: Conversation, typed: str, lang: Lang) -> None:
    """Does what a line that begins with a slash says; raises InputError."""
    name, _, rest = typed.strip().partition(" ")
    if name == "/system":
        conversation.change(System(rest.strip()))
        tell(say("reply.system_set" if rest.strip() else "reply.system_none", lang))
    elif name == "/reset":
        conversation.change(Reset())
        tell(say("reply.reset_done", lang))
    elif name == "/undo" and not conversation.turns:
        tell(say("reply.undone_none", lang))
    elif name == "/undo":
        tell(say("reply.undone", lang, turns=conversation.change(Undo())))
    elif name == "/help":
        tell(say("reply.help", lang))
    else:
        tell(say("reply.unknown", lang, name=safe(name, 40)))
