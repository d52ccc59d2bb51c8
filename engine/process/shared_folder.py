"""Whether all machines of a run see one folder: proved before anything else is written."""

import contextlib
import os
import secrets
import time
from pathlib import Path

from engine.contract.files import STAGED, open_regular, read_piece, why_unwritable
from engine.contract.messages import InputError
from engine.process.world import World

PATIENCE = 5.0  # seconds for which a file written by another machine may stay unseen


def require_shared(world: World, folder: Path, setting: str) -> None:
    """Raises InputError on every rank unless every machine of the run sees what rank 0 writes into `folder`.

    All ranks call it; on one machine it does nothing.
    """
    if len(world.machines) < 2:
        return
    nonce = secrets.token_hex(16)
    name, said = world.from_main((f"{STAGED}nonce-{nonce}", nonce))
    path = folder / name
    try:
        world.together(lambda: _write(path, said, setting), chosen=world.is_main)
        seen = world.gather([_sees(path, said)])
    finally:
        if world.is_main:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    blind = sorted({world.nodes[rank] for rank, sees in enumerate(seen) if not sees})
    if blind:
        where = str(folder.absolute())
        raise InputError("folder_not_shared", path=where, nodes=", ".join(blind), main=world.nodes[0], setting=setting)


def _write(path: Path, nonce: str, setting: str) -> None:
    try:
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(fd, nonce.encode())
            os.fsync(fd)  # a network file system sends it now
        finally:
            os.close(fd)
    except OSError as error:
        why = why_unwritable(path.parent, error)
        raise InputError("folder_unwritable", path=str(path.parent), setting=setting, why=why) from None


def _sees(path: Path, nonce: str) -> bool:
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if read_piece(path, 0, 64) == nonce.encode():
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
