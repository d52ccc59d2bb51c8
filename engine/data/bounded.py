"""Work of a tokenizer or a chat template that may never end, done in a thread that the process does not wait for."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TypeVar

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.contract.untrusted import reading_untrusted

POLL_SECONDS = 1.0
POLLS = 30  # for work of any length
CHARACTERS_A_POLL = 5000  # a core encodes 210,000 a second with ProphetNet's, the slowest in Python
Result = TypeVar("Result")
Item = TypeVar("Item")


class Worker:
    """A thread that does one piece of work after another; work that never ends does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """The future result of `work`."""
        future: Future[Result] = Future()

        def task() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # a panic in Rust is not an Exception
                future.set_exception(error)

        self._tasks.put(task)
        return future

    def close(self) -> None:
        """Ends the thread after the work it has been given."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def _nothing() -> None:
    """Does nothing: the default while waiting."""


def _no_template() -> str:
    """The name of a chat template at work where none is."""
    return ""


def in_time(
    future: "Future[Result]",
    path: str,
    characters: int,
    waiting: Callable[[], None] = _nothing,
    template: Callable[[], str] = _no_template,
) -> Result:
    """The tokenizer's result for a text of `characters` characters; raises InputError if it does not finish in time.

    `waiting` is called once a second. Waits are counted, not time: a process that was suspended has not waited.
    `template` names the chat template that is at work, if that is what is waited for.
    """
    polls = POLLS + characters // CHARACTERS_A_POLL
    for _ in range(polls):
        if wait([future], POLL_SECONDS).done:
            break
        waiting()
    else:
        name, took = template(), {"characters": characters, "polls": polls}
        if name:
            raise InputError("chat_template_bad", path=name, why=Phrase.of("why.template_endless", **took))
        raise InputError("tokenizer_bad", path=path, why=Phrase.of("why.encoding_endless", **took))
    with reading_untrusted("tokenizer_bad", path):  # errors are attributed to the tokenizer, and not to the rows
        return future.result()


def one_ahead(items: Iterable[Item], start: Callable[[Item], Result]) -> Iterator[tuple[Item, Result]]:
    """Each item with what `start` returns for it, once the next item is started too: a worker never waits for work."""
    before: tuple[Item, Result] | None = None
    for item in items:
        after = (item, start(item))
        if before is not None:
            yield before
        before = after
    if before is not None:
        yield before


def done_in_time(
    work: Callable[[], Result], path: str, characters: int, template: Callable[[], str] = _no_template
) -> Result:
    """The result of a tokenizer's `work` on `characters` characters; raises InputError if it takes too long."""
    worker = Worker("tokenizer")
    try:
        return in_time(worker.submit(work), path, characters, template=template)
    finally:
        worker.close()
