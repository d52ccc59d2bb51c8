"""Saves, publishes and records in processes that are forked for it: `saver_program MODEL TOKENIZER`.

Orders come in as JSON, one a line; each is carried out by a child of its own, so that what is slow, the start of
torch, happens once. Under strace every n-th call of one kind that a process makes fails, or kills it, and the count
starts over in every child: a child that makes most of these calls in vain beforehand chooses which one that is.
"""

import json
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from engine.contract.bounds import read_as
from engine.contract.durable import read_json, write_json
from engine.contract.manifest import FrozenFile, Manifest
from engine.contract.outputdir import OutputDir
from engine.training import checkpoint
from tests.faults.invariants import NEW, assert_survives_a_publication, assert_survives_a_record, assert_survives_a_save
from tests.faults.tiny import Tiny, frozen_entry, load, published_mark, save_and_prune

WHEN = 400  # the call that strace lets fail, counted from 1; more than a save, or the start of torch, makes of any kind
NOWHERE, NOTHING = "/nowhere/at/all", 1 << 20  # a path that leads nowhere, a descriptor of nothing

# One call of each kind, made in vain.
IN_VAIN: dict[str, Callable[[], object]] = {
    "write": lambda: os.write(NOTHING, b""),
    "fsync": lambda: os.fsync(NOTHING),
    "rename": lambda: os.rename(NOWHERE, NOWHERE),
    "mkdir": lambda: os.mkdir("/"),
    "rmdir": lambda: os.rmdir(NOWHERE),
    "unlinkat": lambda: os.unlink("nowhere", dir_fd=NOTHING),
}

FAILING = ("write", "fsync", "rename", "mkdir")  # kinds by which a save writes
RECORD = ("write", "fsync", "rename")  # kinds by which a JSON file is written
STANDARD_OUTPUT = 1  # a socket, for `send` is not a call that is made to fail


class Strace:
    """The fault that strace was asked to make, at the `nth` call of `kind` from here on."""

    def __init__(self, kind: str, nth: int, number: int) -> None:
        self._kind, self._nth, self._number = kind, nth, number
        self.hit = False

    def __enter__(self) -> Self:
        for _ in range(WHEN - self._nth):
            assert self._in_vain() != self._number, "calls were made before the fault was to come"
        return self

    def __exit__(self, *_: object) -> None:
        """Makes the calls that are left, so that the fault does not come later; it was hit if it is not among them."""
        self.hit = self._number not in [self._in_vain() for _ in range(WHEN)]

    def _in_vain(self) -> int | None:
        try:
            IN_VAIN[self._kind]()
        except OSError as error:
            return error.errno
        return None


# None of these makes a call before it enters the fault: what has to be read is read by those who give the order.


def frozen_of(order: Mapping[str, Any]) -> FrozenFile | None:
    """The frozen weights that a save is to share with those before it."""
    return read_as(FrozenFile, order["frozen"]) if order["frozen"] else None


def save(tiny: Tiny, output: OutputDir, fault: Strace, order: Mapping[str, Any]) -> None:
    """Saves under the fault and checks what it left."""
    writer = tiny.writer(output, frozen=frozen_of(order))
    assert_survives_a_save(fault, output, writer, order["step"], order["acknowledged"])


def publish(tiny: Tiny, output: OutputDir, fault: Strace, _order: Mapping[str, Any]) -> None:
    """Publishes under the fault and checks what it left."""
    assert_survives_a_publication(fault, output, tiny, 1.0)


def record(_tiny: Tiny, output: OutputDir, fault: Strace, _order: Mapping[str, Any]) -> None:
    """Writes the owner file under the fault and checks what it left."""
    assert_survives_a_record(fault, output)


CHECKED = {"save": save, "publish": publish, "record": record}


def bare(tiny: Tiny, output: OutputDir, order: Mapping[str, Any]) -> None:
    """The same without checks, for a child that is to be killed in the middle."""
    what = order["do"]
    if what == "publish":
        tiny.publish(output, 2.0)
    elif what == "record":
        write_json(output.owner_file, NEW)
    else:
        save_and_prune(tiny.writer(output, frozen=frozen_of(order)), order["step"])


def save_for_ever(tiny: Tiny, output: OutputDir) -> None:
    """Saves step after step as a run that resumes would, and says so after each."""
    checkpoint.remove_leftovers(output)
    found, _ = checkpoint.newest_sound(output)
    writer = tiny.writer(output, frozen=frozen_entry(output))
    step = 0 if found is None else found.step
    while True:
        step += 1
        writer.save(Manifest(step=step))
        say(f"saved {step}")
        writer.prune(step, best_step=-1)


def carry_out(tiny: Tiny, order: Mapping[str, Any]) -> None:
    """One order, in a child; reports whether the fault came about, and what did not hold."""
    output, what = OutputDir(Path(order["folder"])), order["do"]
    if what == "save_for_ever":
        save_for_ever(tiny, output)
    fault = Strace(order["kind"], order["nth"], order["number"])
    if not order["number"]:  # it is killed in there, or was not: any call from now on could be the one that kills
        fault.__enter__()
        bare(tiny, output, order)
        os._exit(0)
    problem = ""
    try:
        CHECKED[what](tiny, output, fault, order)
    except AssertionError as error:
        problem = str(error)
    say(json.dumps({"hit": fault.hit, "problem": problem}))


def say(line: str) -> None:
    """Tells the tests something."""
    with socket.socket(fileno=os.dup(STANDARD_OUTPUT)) as channel:
        channel.sendall(line.encode() + b"\n")


def in_a_child(tiny: Tiny, order: Mapping[str, Any]) -> None:
    """Forks for one order and tells how the child ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            say(f"child {os.getpid()}")  # its parent might come to say it after what the child reports
            carry_out(tiny, order)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    say(f"ended {os.waitstatus_to_exitcode(status)}")


def warm_up(tiny: Tiny) -> None:
    """What is imported or opened at first use shall not count as part of a save."""
    with tempfile.TemporaryDirectory() as folder:
        output = OutputDir(Path(folder))
        save_and_prune(tiny.writer(output), 1)
        for mark in (1.0, 2.0, 3.0):
            tiny.publish(output, mark)
            published_mark(output.best)  # of the bytes that the children publish
        write_json(output.owner_file, {})
        read_json(output.owner_file)


def main(model_folder: str, tokenizer_folder: str) -> None:
    """Carries out orders until there are no more."""
    tiny = load(Path(model_folder), Path(tokenizer_folder))
    warm_up(tiny)
    say("ready")
    for line in sys.stdin:
        in_a_child(tiny, json.loads(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
