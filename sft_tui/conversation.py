"""A conversation with a model, held by a process of the engine: this side of it, which prints nothing."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Self

from engine.contract.child_command import module_command
from engine.contract.conversing import (
    LONGEST_LINE,
    Changed,
    Choice,
    History,
    Open,
    Opened,
    Piece,
    Refused,
    Replied,
    Reset,
    Sampling,
    Say,
    Spoken,
    Stop,
    System,
    Undo,
    line_of,
    read_line,
)
from engine.contract.messages import InputError
from sft_tui.child_process import engine_environment, signal_of

MODULE = "engine.reply"
ENDS_WITHIN = 2.0  # seconds, after its input has ended
LAST_WORDS = 400  # bytes of what the process wrote before it died


class Conversation:
    """A conversation with the model in a folder, which is loaded once.

    The process has its own session, so that an interrupt at the terminal does not end it, and ends with this one, since
    its input does. One thread at a time may wait for its answers; `stop` may be called by any, and by a signal handler.
    """

    def __init__(
        self,
        model: str,
        *,
        system: str = "",
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
        chat_template: str = "",
        template_options: str = "",
        started: Callable[["Conversation"], None] = lambda _one: None,
    ) -> None:
        """Loads the model; raises InputError. `started` gets it before it is loaded, so that another can end it."""
        self._words: IO[bytes] = os.fdopen(os.memfd_create("words"), "w+b")  # in memory; closed by close
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                module_command(MODULE),
                env=engine_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                start_new_session=True,
            )
        except BaseException:
            self._words.close()
            raise
        self._writing, self._to_stop = threading.Lock(), False
        self.turns = 0  # of the user
        try:
            started(self)
            how = (system, max_new_tokens, sampling or Sampling(), chat_template, template_options)
            self._ask(Open(model, *how))
            opened = self._answer()
            if not isinstance(opened, Opened):
                raise self._broken()
        except BaseException:
            self.close()
            raise
        self.opened = opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()

    def say(self, text: str) -> Iterator[Piece | Replied]:
        """The reply to one more turn, piece by piece, and the account of it at the end; raises InputError.

        If the caller stops in between, the reply is stopped, and counts as far as it came.
        """
        self._ask(Say(text))
        ended = False
        try:
            while not ended:
                answer = self._answer()
                if not isinstance(answer, Piece | Replied):
                    raise self._broken()
                ended = isinstance(answer, Replied)
                self.turns += ended
                yield answer
        except InputError:
            ended = True
            raise
        finally:
            if not ended:
                self._discard()

    def reply(self, text: str) -> Replied:
        """The whole reply to one more turn; raises InputError."""
        *_, replied = self.say(text)
        assert isinstance(replied, Replied)
        return replied

    def stop(self) -> None:
        """Ends the reply that is being generated, at its next token."""
        self._to_stop = True
        while self._to_stop and self._writing.acquire(blocking=False):  # else a line is half written; it comes after it
            try:
                self._to_stop = False
                with contextlib.suppress(OSError, ValueError):  # it has ended, or was closed
                    os.write(self._input.fileno(), line_of(Stop()))
            finally:
                self._writing.release()

    def change(self, request: System | Undo | Reset | History | Choice) -> int:
        """Changes the conversation; returns the number of turns of the user that it has now. Raises InputError."""
        self._ask(request)
        answer = self._answer()
        if not isinstance(answer, Changed):
            raise self._broken()
        self.turns = answer.turns
        return self.turns

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._words.close()

    def kill(self) -> None:
        """Ends the process at once, from any thread; one that waits for an answer gets the error that it has ended."""
        self._process.kill()

    @property
    def pid(self) -> int:
        """The process that replies."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process can still reply."""
        return self._process.poll() is None

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _ask(self, request: Spoken) -> None:
        with self._writing:
            try:
                self._input.write(line_of(request))
                self._input.flush()
            except OSError:
                raise self._ended() from None
        if self._to_stop:
            self.stop()

    def _answer(self) -> Spoken:
        """The next line; raises InputError if it is a refusal, or there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline(LONGEST_LINE)
        if not line:
            raise self._ended()
        try:
            answer = read_line(line)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise self._broken() from None
        if isinstance(answer, Refused):
            raise InputError(answer.message.code, **answer.message.args)
        return answer

    def _discard(self) -> None:
        """Stops the reply and reads the rest of it, so that the next answer is that to the next request."""
        self.stop()
        with contextlib.suppress(InputError):
            while not isinstance(self._answer(), Replied):
                pass
            self.turns += 1

    def _ended(self) -> InputError:
        """How the process ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDS_WITHIN)
        code = self._process.returncode
        if code is None:
            return self._broken()
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - LAST_WORDS))
        said = self._words.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        why = signal_of(code) or " ".join(said.split()) or f"exit code {code}"
        return InputError("conversation_ended", why=why)

    def _broken(self) -> InputError:
        """It said what no version of ours says at this point; ends it."""
        self._process.kill()
        return InputError("conversation_ended", why=MODULE)
