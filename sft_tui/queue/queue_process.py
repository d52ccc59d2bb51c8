"""Starts the process of a queue, which belongs to nobody who watches it."""

import os
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from engine.contract.child_command import module_command
from engine.contract.config import override
from engine.contract.files import open_to_append, reason
from engine.contract.messages import InputError, Message
from engine.contract.presets import preset
from sft_tui.queue import entries
from sft_tui.queue.entries import Queue
from sft_tui.queue.queue_file import QueueFolder

GRACE_SECONDS = 5.0  # that a process which was just started has until it is taken for dead
LOOK_SECONDS = 0.1


def is_due(folder: QueueFolder, queue: Queue) -> bool:
    """Whether its process should be alive and is not: it was killed, or the machine restarted."""
    return bool(queue.active or (queue.waiting and not queue.paused)) and not folder.runs


def settled(folder: QueueFolder) -> tuple[Queue, list[Message]]:
    """The queue and what is wrong with it, once a process that was just started has had time to be alive."""
    until = time.monotonic() + GRACE_SECONDS
    found, wrong = folder.look()
    while is_due(folder, found) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        found, wrong = folder.look()
    return found, wrong


def ensure(folder: QueueFolder, queue: Queue) -> bool:
    """Starts the process of a queue if it should be alive and is not; whether it did. Raises InputError."""
    if not is_due(folder, queue):
        return False
    try:
        log = open_to_append(folder.output)
    except OSError as error:
        raise InputError("folder_unwritable", path=str(folder.output), setting="logs", why=reason(error)) from None
    try:
        subprocess.Popen(
            module_command("sft_tui.queue.runner", str(folder.logs.absolute())),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        raise InputError("start_failed", run="queue", why=reason(error)) from None
    finally:
        os.close(log)
    return True


def add(folder: QueueFolder, name: str, values: Mapping[str, Any], based_on: str = "") -> int:
    """Puts a run at the end of the queue, and has it started in its turn; returns its number. Raises InputError."""
    override(preset(name).config, values)
    number = folder.add(name, values, based_on)
    ensure(folder, folder.read())
    return number


def resume(folder: QueueFolder) -> Queue:
    """Continues a paused queue; raises InputError."""
    queue = folder.change(entries.without_pause)
    ensure(folder, queue)
    return queue
