"""What keeps the inspecting process small: a limit of memory, and no torch."""

import importlib.util
import os
import resource
import sys
from importlib.machinery import ModuleSpec
from typing import Any

import psutil

from engine.contract.messages import InputError

MEMORY_LIMIT = 2 << 30  # bytes of private memory


def limit_this_process() -> None:
    """Disables core dumps, and limits memory to what an inspection can need."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_LIMIT if most == resource.RLIM_INFINITY else min(MEMORY_LIMIT, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def allow_memory(more: int) -> None:
    """Raises the limit of this process by `more` bytes for a task whose needs are known; raises InputError.

    Refused is what the machine has not free.
    """
    free = psutil.virtual_memory().available
    if more > free:
        raise InputError("conversion_memory", needed=f"{more / 1e9:.1f}", free=f"{free / 1e9:.1f}")
    soft, most = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        limit = soft + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


class _Hidden:
    """Makes torch look uninstalled: transformers' tokenizers work without it, and start in a third of the time."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)
        return None


def hide_torch() -> None:
    """Makes `import torch` fail in this process from now on, unless it was imported or hidden before."""
    if "torch" in sys.modules or any(isinstance(finder, _Hidden) for finder in sys.meta_path):
        return
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    sys.meta_path.insert(0, _Hidden())
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == "torch" else found(name, *rest)
