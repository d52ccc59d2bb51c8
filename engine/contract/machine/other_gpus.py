"""GPUs of AMD and Intel, which NVML does not list: found by what the kernel says of them, and by how torch was built.

No tool and no driver is asked. Graphics that are part of a processor are left out: nobody trains on them.
"""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DRM = Path("/sys/class/drm")
MAKERS = {"0x1002": "AMD", "0x8086": "Intel"}
BACKEND = {"AMD": "hip", "Intel": "xpu"}  # what torch must be built with
LEAST_MEMORY = 2 << 30  # bytes; less is what a processor lends to its graphics
INTEGRATED = re.compile(r"[0-9a-f]{4}:00:")  # the bus that Intel's processors have their own graphics on


@dataclass(frozen=True)
class TorchBuild:
    """How the torch that trains was built; its version is empty if it is not installed."""

    version: str = ""
    backends: frozenset[str] = frozenset()


@dataclass(frozen=True)
class OtherGpu:
    """A GPU that NVML does not list, its address on the bus, and whether torch was built for it."""

    maker: str
    address: str
    usable: bool


def found(drm: Path = DRM) -> list[OtherGpu]:
    """The GPUs of AMD and Intel in this machine, in the order of their addresses."""
    cards = {address: maker for address, maker in _cards(drm) if not _is_part_of_a_processor(drm, address, maker)}
    if not cards:
        return []
    backends = torch_build().backends
    return [OtherGpu(maker, address, BACKEND[maker] in backends) for address, maker in sorted(cards.items())]


def unusable() -> str:
    """The makers of GPUs that this torch cannot use; empty if there are none."""
    return makers([gpu for gpu in found() if not gpu.usable])


def makers(cards: Sequence[OtherGpu]) -> str:
    """The makers of some GPUs, " + " between them."""
    return " + ".join(sorted({gpu.maker for gpu in cards}))


def _cards(drm: Path) -> Iterator[tuple[str, str]]:
    """Address and maker of each card that the kernel lists."""
    try:
        entries = sorted(drm.glob("card*"))
    except OSError:
        return
    for entry in entries:
        maker = MAKERS.get(_read(entry / "device" / "vendor"))
        if maker and re.fullmatch(r"card\d+", entry.name):
            yield (entry / "device").resolve().name, maker


def _is_part_of_a_processor(drm: Path, address: str, maker: str) -> bool:
    if maker == "Intel":
        return INTEGRATED.match(address) is not None
    sizes = drm.glob("card*/device/mem_info_vram_total")
    texts = [_read(path) for path in sizes if path.parent.resolve().name == address]
    return any(text.isdecimal() and int(text) < LEAST_MEMORY for text in texts)


def torch_build(folder: Path | None = None) -> TorchBuild:
    """How torch was built, by the file that says so; torch is not imported."""
    if folder is None:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            return TorchBuild()
        folder = Path(spec.origin).parent
    text = _read(folder / "version.py")
    version = re.search(r"^__version__ = '([^']*)'", text, re.MULTILINE)
    built = re.findall(r"^(cuda|hip|xpu)\b[^=\n]*= '", text, re.MULTILINE)
    return TorchBuild(version[1] if version else "", frozenset(built))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
