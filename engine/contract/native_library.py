"""The trainer's own C code (`engine/cpu/*.c`): which of its libraries this machine can use, or why it can use none.

A library carries the digest of the sources it was compiled from and is used only with those: neither file times nor a
version number that somebody must increase show what is in it. The installation also asks here what to compile.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "cpu"
DIGITS = 64  # of the symbol `source`, hexadecimal
# What -march=x86-64-v4 and -v3 allow (System V ABI for x86-64, 3.1.1), by the kernel's names; best first.
_V3 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])
NEEDED = {"avx512": _V3 | frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]), "avx2": _V3}


# Compiler options for each kind, by the architecture of the machine that compiles.
FLAGS = {
    "x86_64": {"avx512": ["-march=x86-64-v4"], "avx2": ["-march=x86-64-v3"]},
    "aarch64": {"neon": ["-Wno-psabi"]},
}
COMPILED = ["-O3", "-fopenmp"]


def sources() -> list[Path]:
    """The files that libraries are compiled from, headers last."""
    return [*sorted(FOLDER.glob("*.c")), *sorted(FOLDER.glob("*.h"))]


def digest() -> str:
    """The hash that identifies the sources."""
    found = hashlib.sha256()
    for path in sources():
        found.update(f"{path.name} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Fault:
    """Why a library cannot be used: `code` is missing, stale or unloadable, `why` is the loader's own message."""

    code: str
    why: str = ""


@cache
def kinds() -> tuple[str, ...]:
    """The kinds of code that this processor runs, fastest first; none if it belongs to another family."""
    if platform.machine() == "aarch64":
        return ("neon",)
    from engine.contract.processor import flags  # not above: setup.py runs this file before the package exists

    return tuple(kind for kind, needed in NEEDED.items() if needed <= flags())


def fault() -> Fault | None:
    """Why the C code cannot be used on this machine; None if it can, or if there is none for its processor."""
    found = [each for each in map(library, kinds()) if isinstance(each, Fault)]
    if not found or len(found) < len(kinds()):
        return None
    return next((each for each in found if each.code != "missing"), found[0])


@cache
def library(kind: str) -> ctypes.CDLL | Fault:
    """The library for a kind of processor, loaded, if it matches the sources next to it."""
    found = importlib.util.find_spec(f"engine.cpu._kernels_{kind}")
    if found is None or found.origin is None:
        return Fault("missing")
    try:
        _load_threads()
        loaded = ctypes.CDLL(found.origin)
    except OSError as error:
        return Fault("unloadable", str(error))
    try:
        own = (ctypes.c_char * DIGITS).in_dll(loaded, "source").value.decode("ascii", "replace")
    except ValueError:  # a library older than the digest symbol
        own = ""
    return loaded if own == digest() else Fault("stale")


def _load_threads() -> None:
    """Loads the threading library that torch brings, as the trainer does: the machine may have no other."""
    torch = importlib.util.find_spec("torch")
    for folder in torch.submodule_search_locations or () if torch else ():
        for path in sorted(Path(folder, "lib").glob("libgomp*.so*")):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(path), mode=os.RTLD_GLOBAL)
