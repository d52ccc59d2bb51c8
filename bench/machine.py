"""The machine that a benchmark runs on, in words."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")


def machine() -> str:
    """Processor, cores, the flags that decide how fast products are, memory, and versions."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", text)
    listed = re.search(r"(?:flags|Features)\s*:\s*(.*)", text)
    flags = set(listed[1].split()) if listed else set()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    known = " ".join(flag for flag in FLAGS if flag in flags)
    versions = f"Python {platform.python_version()}, torch {version('torch')}"
    return f"{model[1] if model else platform.processor()}, {cores} cores ({known}), {memory:.1f} GB, {versions}"
