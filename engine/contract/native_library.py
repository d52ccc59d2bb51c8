"""The trainer's own code in C (`engine/cpu/*.c`): which library of it this machine can use, or why none.

A library carries the digest of the sources that it was compiled from, and is used for those alone: neither times of
files nor a number that somebody has to raise say what is in it. The installation asks here too what to compile.
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
# What -march=x86-64-v4 and -v3 let a compiler use (System V ABI for x86-64, 3.1.1), as the kernel names it; best first.
_V3 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])
NEEDED = {"avx512": _V3 | frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]), "avx2": _V3}


# What a compiler is told for each kind, by the machine that it compiles on.
FLAGS = {
    "x86_64": {"avx512": ["-march=x86-64-v4"], "avx2": ["-march=x86-64-v3"]},
    "aarch64": {"neon": ["-Wno-psabi"]},
}
COMPILED = ["-O3", "-fopenmp"]


def sources() -> list[Path]:
    """The files that libraries are compiled from, headers last."""
    return [*sorted(FOLDER.glob("*.c")), *sorted(FOLDER.glob("*.h"))]


def digest() -> str:
    """What the sources are known by."""
    found = hashlib.sha256()
    for path in sources():
        found.update(f"{path.name} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Fault:
    """Why a library is of no use: `code` is missing, stale or unloadable, `why` is the loader's own word."""

    code: str
    why: str = ""


@cache
def kinds() -> tuple[str, ...]:
    """The kinds of code that this processor runs, the fastest first; none where it is of another family."""
    if platform.machine() == "aarch64":
        return ("neon",)
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        flags = set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
    return tuple(kind for kind, needed in NEEDED.items() if needed <= flags)


def fault() -> Fault | None:
    """Why the code in C cannot be used on this machine; None where it can, or where there is none for its processor."""
    found = [each for each in map(library, kinds()) if isinstance(each, Fault)]
    if not found or len(found) < len(kinds()):
        return None
    return next((each for each in found if each.code != "missing"), found[0])


@cache
def library(kind: str) -> ctypes.CDLL | Fault:
    """The library for a kind of processor, loaded, if it is that of the sources next to it."""
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
    except ValueError:  # one of before libraries had it
        own = ""
    return loaded if own == digest() else Fault("stale")


def _load_threads() -> None:
    """Loads the library of threads that torch brings, as the trainer has it loaded: the machine may have no other."""
    torch = importlib.util.find_spec("torch")
    for folder in torch.submodule_search_locations or () if torch else ():
        for path in sorted(Path(folder, "lib").glob("libgomp*.so*")):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(path), mode=os.RTLD_GLOBAL)
