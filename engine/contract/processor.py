"""What this machine's processor can do, as the kernel lists it."""

from functools import cache
from pathlib import Path

BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # on x86, and on ARM


@cache
def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The features of the processor by the kernel's names; none if the kernel does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, "").split())


def multiplies_bf16() -> bool:
    """Whether the processor multiplies matrices in bf16 natively."""
    return not flags().isdisjoint(BF16)
