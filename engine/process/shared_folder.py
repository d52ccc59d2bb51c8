"""Whether all machines see one folder and its locks, and can write: proved before anything else is written."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from engine.contract.files import STAGED, open_regular, read_piece, why_unwritable
from engine.contract.locks import is_held, unwritable
from engine.contract.messages import InputError
from engine.process.meeting import some
from engine.process.world import World

PATIENCE = 5.0  # seconds for which a file written by another machine may stay unseen

Seen = Literal["nothing", "file", "lock"]


def require_shared(world: World, folder: Path, setting: str) -> None:
    """Raises InputError on every rank unless every machine of the run sees what rank 0 writes and locks in `folder`.

    All ranks call it; on one machine it does nothing.
    """
    if len(world.machines) < 2:
        return
    nonce = secrets.token_hex(16)
    name, said = world.from_main((f"{STAGED}nonce-{nonce}", nonce))
    path = folder / name
    with contextlib.ExitStack() as held:
        world.together(lambda: held.enter_context(_written(path, said, setting)), chosen=world.is_main)
        seen: list[Seen] = world.gather([_seen(path, said)])
    pairs = list(zip(world.nodes, seen, strict=True))
    blind, lockless = (some(node for node, found in pairs if found == kind) for kind in ("nothing", "file"))
    where = {"path": str(folder.absolute()), "main": world.nodes[0]}
    if blind:
        raise InputError("folder_not_shared", nodes=blind, setting=setting, **where)
    if lockless:
        raise InputError("locks_not_shared", nodes=lockless, **where)
    mine = folder / f"{STAGED}nonce-{nonce}"
    world.together(lambda: _try(mine, world, setting), chosen=world.is_local_main and not world.is_main)


def _try(path: Path, world: World, setting: str) -> None:
    """Creates a file and removes it; raises InputError that names this machine."""
    try:
        os.close(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        path.unlink()
    except OSError as error:
        why, where = why_unwritable(path.parent, error), str(path.parent.absolute())
        node = world.nodes[world.rank]
        raise InputError("folder_unwritable_there", path=where, node=node, setting=setting, why=why) from None


@contextlib.contextmanager
def _written(path: Path, nonce: str, setting: str) -> Iterator[None]:
    """A file with a number in it, locked; raises InputError."""
    try:
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except OSError as error:
        raise unwritable(path.parent, error, setting) from None
    try:
        try:
            os.write(fd, nonce.encode())
            os.fsync(fd)  # a network file system sends it now
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise unwritable(path.parent, error, setting) from None
        yield
    finally:
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()


def _seen(path: Path, nonce: str) -> Seen:
    """What this rank sees of that file."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if read_piece(path, 0, 64) == nonce.encode():
                return "lock" if is_held(path) else "file"
        if time.monotonic() > end:
            return "nothing"
        time.sleep(0.1)
