"""How ranks meet: each says what it computes on before their group is made.

A group made by ranks of which one has no GPU, or of which two share one, would wait for itself, or fail without words.
"""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import torch
import torch.distributed as dist
from torch.distributed import (  # type: ignore[attr-defined]
    DistError,
    DistNetworkError,
    DistStoreError,
    PrefixStore,
    Store,
)
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.rendezvous import rendezvous

from engine.contract import environment
from engine.contract.bounds import Between, Name, PathText, as_json, read_as
from engine.contract.launch import OURS, Launch
from engine.contract.machine.gpus import cpu_requested
from engine.contract.messages import InputError
from engine.contract.processes import boot_id, host_name
from engine.contract.untrusted import one_line

# Ranks wait for rank 0 while it tokenizes or saves; a launcher or `peers` notices a dead rank, not this limit.
COLLECTIVE_LIMIT = timedelta(hours=12)
MEETING_LIMIT = timedelta(minutes=10)  # for the rank that starts last
CONNECT_LIMIT = timedelta(seconds=30)  # for a connection between two that have met; gloo tries five times
NAME_SECONDS = 60.0  # for which a new host may be unknown by its name, as in Kubernetes
LEAVE_SECONDS = 5.0  # for which rank 0, whose store it may be, lets the others read why none of them trains
MOST_NAMED = 16  # ranks or machines
LONGEST_WHY = 200  # characters
MISSED = re.compile("connectFullMesh|wait timeout")  # gloo got no connection, or found no address, of another rank


@dataclass(frozen=True)
class Hello:
    """What a rank says of itself: its machine, what it computes on, the UUID of its GPU, and the run that it sees."""

    rank: Annotated[int, Between(0, 1 << 20)] = 0
    node: Name = ""
    boot: Name = ""
    device: Name = "cpu"
    gpu: Name = ""
    asked: bool = False  # whether the CPU was asked for
    run: Name = ""  # the id of the run in its folder; empty if it finds none there
    folder: PathText = ""  # of the run, as its machine sees it


@dataclass(frozen=True)
class Meeting:
    """Those who met, in order of rank; `store` is where they did, if somewhere."""

    hellos: list[Hello]
    store: Store | None = field(default=None, repr=False)  # rank 0 serves it for as long as it is held


def meet(
    given: Mapping[str, str], launch: Launch = OURS, run: str = "", folder: str = "", *, asked: bool = False
) -> Meeting:
    """Lets this rank meet all others, and makes the group that accelerate then takes; raises InputError.

    `launch` is what a launcher was asked for, `run` the id of the run that this rank finds in `folder`, `asked`:
    whether the CPU was asked for, and not taken for want of a GPU.
    """
    device, meeting = own_device(given), given.get(environment.RENDEZVOUS)
    gpu = "" if device.type != "cuda" else _uuid(device)
    mine = Hello(int(given.get("RANK", "0")), host_name(), boot_id(), device.type, gpu, asked, run, folder)
    size = int(given.get("WORLD_SIZE", "1"))
    # Through a file without a rank in it, only accelerate meets: a supervisor starts such ranks on one CPU.
    if size < 2 or "RANK" not in given or (meeting is not None and "?" not in meeting):
        require_fit([mine], launch.gpus)
        return Meeting([mine])
    restart = given.get("TORCHELASTIC_RESTART_COUNT", "0")  # a launcher that restarts its ranks may keep its store
    store = PrefixStore(f"sft-tui-{restart}", _store(given, mine))
    hellos = exchanged(store, mine, size)
    try:
        require_one_run(hellos)
        require_fit(hellos, launch.gpus)
    except InputError:
        _leave(store, mine.rank, size)
        raise
    _make_group(given, device, store, mine, hellos)
    return Meeting(hellos, store)


def own_device(given: Mapping[str, str]) -> torch.device:
    """The device that accelerate takes for this rank: a number above those of the visible GPUs wraps around."""
    if cpu_requested(given):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", max(0, _local_rank(given)) % torch.cuda.device_count())
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def require_one_run(hellos: Sequence[Hello]) -> None:
    """Raises InputError unless all ranks find the same run in its folder; if none finds one, their job says so."""
    main = next((hello for hello in hellos if hello.run), None)
    others = [hello for hello in hellos if main is not None and hello.run != main.run]
    if main is not None and others:
        nodes = some(hello.node for hello in others)
        raise InputError("folder_not_shared", nodes=nodes, setting="logs", path=main.folder, main=main.node)


def require_fit(hellos: Sequence[Hello], gpus: int) -> None:
    """Raises InputError unless all ranks compute on one kind of device, as promised, and no two on one GPU.

    `gpus` of each machine were promised; 0: none were. All ranks judge alike.
    """
    blind = [hello for hello in hellos if hello.device == "cpu"]
    missing = [hello for hello in blind if not hello.asked]
    if gpus and missing:
        raise InputError("gpus_promised", gpus=gpus, **_listed(missing))
    if len({hello.device for hello in hellos}) > 1:
        raise InputError("gpus_mixed", count=len(blind), ranks=len(hellos), **_listed(blind))
    taken: dict[tuple[str, str, str], int] = {}
    for hello in hellos:
        first = taken.setdefault((hello.node, hello.boot, hello.gpu), hello.rank)
        if hello.gpu and first != hello.rank:
            raise InputError("gpu_twice", first=first, second=hello.rank, node=hello.node, gpu=hello.gpu)


def _listed(hellos: Sequence[Hello]) -> dict[str, str]:
    return {"nodes": some(hello.node for hello in hellos), "numbers": some(str(hello.rank) for hello in hellos)}


def some(names: Iterable[str]) -> str:
    """The first of some ranks or machines, each once, in a sentence."""
    found = list(dict.fromkeys(names))
    return ", ".join([*found[:MOST_NAMED], *["…"] * (len(found) > MOST_NAMED)])


def exchanged(store: Store, mine: Hello, size: int) -> list[Hello]:
    """What all ranks say of themselves; raises InputError if one does not come, or something else answers."""
    names = [f"hello-{rank}" for rank in range(size)]
    try:
        store.set(names[mine.rank], json.dumps(as_json(mine)))
        _await_all(store, names)
        return [read_as(Hello, json.loads(said)) for said in store.multi_get(names)]
    except (ValueError, TypeError, OverflowError, RecursionError, DistError) as error:
        raise _unmet(os.environ, mine, one_line(error)) from None


def _await_all(store: Store, names: Sequence[str]) -> None:
    try:
        store.wait(list(names), MEETING_LIMIT)
    except DistStoreError:
        absent = some(str(rank) for rank, name in enumerate(names) if not store.check([name]))
        seconds = round(MEETING_LIMIT.total_seconds())
        raise InputError("meeting_incomplete", absent=absent, ranks=len(names), seconds=seconds) from None


def _store(given: Mapping[str, str], mine: Hello) -> Store:
    """The store where ranks meet, which rank 0 or its launcher serves; raises InputError."""
    url = given.get(environment.RENDEZVOUS)
    if url is None:
        await_name(given.get("MASTER_ADDR", ""), mine.node)
    try:
        store: Store = next(rendezvous(url or "env://", timeout=MEETING_LIMIT))[0]
        return store
    except (DistNetworkError, DistStoreError) as error:
        if "EADDRINUSE" in str(error):
            raise InputError("meeting_port", port=given.get("MASTER_PORT", "?"), node=mine.node) from None
        raise _unmet(given, mine, one_line(error)) from None


def await_name(address: str, node: str) -> None:
    """Waits for a name that is still unknown to this machine; raises InputError if it remains so."""
    until = time.monotonic() + NAME_SECONDS
    while address:  # torch says that it is not set
        try:
            socket.getaddrinfo(address, None)
            return
        except OSError as error:
            if time.monotonic() > until:
                raise InputError("meeting_unknown", address=address, node=node, why=error.strerror or "?") from None
        time.sleep(1.0)


def _unmet(given: Mapping[str, str], mine: Hello, why: str) -> InputError:
    address, port = given.get("MASTER_ADDR", "?"), given.get("MASTER_PORT", "?")
    return InputError("meeting_failed", rank=mine.rank, node=mine.node, address=address, port=port, why=why)


def _leave(store: Store, rank: int, size: int) -> None:
    """Says that this rank has read what all said; rank 0, with whom the store ends, waits for the others."""
    with contextlib.suppress(RuntimeError):
        store.set(f"left-{rank}", "")
        if rank == 0:
            store.wait([f"left-{other}" for other in range(size)], timedelta(seconds=LEAVE_SECONDS))


def _make_group(
    given: Mapping[str, str], device: torch.device, store: Store, mine: Hello, hellos: Sequence[Hello]
) -> None:
    """Makes the group; of other kinds of devices, and of ranks that were launched without a place, accelerate does.

    accelerate would make it without the number of this rank's GPU, which NCCL then guesses at the first collective.
    Raises InputError.
    """
    how: dict[str, Any] = {"store": PrefixStore("group", store), "rank": mine.rank, "world_size": len(hellos)}
    store.set_timeout(COLLECTIVE_LIMIT)
    if device.type == "cuda" and _local_rank(given) >= 0:
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, timeout=COLLECTIVE_LIMIT, **how)
    elif cpu_requested(given):
        _connect(given, store, mine, hellos, how)


def _connect(
    given: Mapping[str, str], store: Store, mine: Hello, hellos: Sequence[Hello], how: Mapping[str, Any]
) -> None:
    """Makes a group of gloo's; raises InputError, on all ranks, if some cannot open or get their connections."""
    began, made = time.monotonic(), False
    try:
        dist.init_process_group("gloo", timeout=CONNECT_LIMIT, **how)
        made = True
        _set_pg_timeout(COLLECTIVE_LIMIT)
        dist.barrier()  # where two others did not connect, it fails
    except DistNetworkError as error:  # the store is gone, with rank 0, which said why
        raise _unmet(given, mine, one_line(error)) from None
    except RuntimeError as error:
        seconds = round(time.monotonic() - began)
        apart = _apart(store, mine.rank, len(hellos), "" if made else one_line(error, LONGEST_WHY))
        if not apart:
            raise
        # Who could not open its side is missed by the others, which say so too.
        found = {rank: why for rank, why in apart.items() if not MISSED.search(why)} or apart
        listed = _listed([hellos[rank] for rank in found])
        code, why = "meeting_apart" if found is apart else "meeting_unopened", next(iter(found.values()))
        raise InputError(code, seconds=seconds, why=why, **listed) from None


def _apart(store: Store, rank: int, size: int, why: str) -> dict[int, str]:
    """Which ranks could not connect to all others, and why; `why` is empty if this one could.

    All fail at nearly the same time, and read after a moment what the others said; rank 0 leaves its store to them.
    """
    found = {rank: why} if why else {}
    with contextlib.suppress(RuntimeError):
        if why:
            store.set(f"apart-{rank}", why)
        time.sleep(LEAVE_SECONDS)
        for other in range(size):
            if other != rank and store.check([f"apart-{other}"]):
                said = store.get(f"apart-{other}")[:LONGEST_WHY].decode("utf-8", "replace")
                found[other] = " ".join(said.split())
    _leave(store, rank, size)
    return dict(sorted(found.items()))


def _local_rank(given: Mapping[str, str]) -> int:
    return int(given.get("LOCAL_RANK", "-1"))


def _uuid(device: torch.device) -> str:
    """The UUID of a GPU; empty if it does not say."""
    with contextlib.suppress(RuntimeError, AttributeError, AssertionError):
        return str(torch.cuda.get_device_properties(device).uuid)
    return ""
