"""Chat templates that never end, and work that is given up only once it has begun, however slow the machine."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from engine.data import bounded
from engine.data.chat import templates
from tests.processes import until

LIMIT = 60.0  # seconds


def give_up_once(begun: Callable[[], bool], patch: pytest.MonkeyPatch, seconds: float = 0.05) -> None:
    """Has work given up so long after it has `begun`."""

    def patient(futures: Any, timeout: float) -> Any:
        until(lambda: begun() or all(one.done() for one in futures), LIMIT)
        return wait(futures, timeout)

    patch.setattr(bounded, "POLLS", 1)
    patch.setattr(bounded, "CHARACTERS_A_POLL", 1 << 30)
    patch.setattr(bounded, "POLL_SECONDS", seconds)
    patch.setattr(bounded, "wait", patient)


@contextmanager
def stuck_templates() -> Iterator[None]:
    """No template ends, and each is given up at once; all have ended afterwards: they limit this process's memory."""
    rendering, over = threading.Event(), threading.Event()

    def endless(*_: Any, **__: Any) -> str:
        rendering.set()
        over.wait(LIMIT)
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedTokenizerBase, "apply_chat_template", endless)
        give_up_once(rendering.is_set, patch)
        try:
            yield
        finally:
            over.set()
            until(lambda: not templates._MEMORY._working, LIMIT)
