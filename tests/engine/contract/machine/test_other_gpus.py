"""GPUs that NVML does not list, in folders made as the kernel makes them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract.machine import other_gpus
from engine.contract.machine.other_gpus import OtherGpu, TorchBuild, found, torch_build

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Puts a card into the machine."""

    def one(number: int, vendor: str, address: str, **files: str) -> None:
        device = tmp_path / "devices" / address
        device.mkdir(parents=True)
        for name, text in {"vendor": vendor, **files}.items():
            (device / name).write_text(f"{text}\n")
        for name in (f"card{number}", f"card{number}-HDMI-A-1"):
            (tmp_path / "drm" / name).mkdir(parents=True)
            (tmp_path / "drm" / name / "device").symlink_to(device)

    return one


def build(monkeypatch: pytest.MonkeyPatch, *backends: str) -> None:
    monkeypatch.setattr(other_gpus, "torch_build", lambda: TorchBuild("2.13.0", frozenset(backends)))


def test_gpus_of_amd_and_intel_are_found_and_others_are_not(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(monkeypatch, "cuda")
    put(0, "0x1002", "0000:03:00.0", mem_info_vram_total=str(16 << 30))
    put(1, "0x8086", "0000:04:00.0")
    put(2, "0x10de", "0000:01:00.0")
    put(3, "0x1a03", "0000:05:00.0")  # a server's own screen
    cards = [OtherGpu("AMD", "0000:03:00.0", usable=False), OtherGpu("Intel", "0000:04:00.0", usable=False)]
    assert found(tmp_path / "drm") == cards
    assert other_gpus.makers(cards) == "AMD + Intel"


def test_graphics_of_a_processor_are_left_out(tmp_path: Path, put: Put) -> None:
    put(0, "0x8086", "0000:00:02.0")
    put(1, "0x1002", "0000:0a:00.0", mem_info_vram_total=str(512 << 20))
    assert found(tmp_path / "drm") == []


def test_a_torch_built_for_a_gpu_can_use_it(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    build(monkeypatch, "hip")
    put(0, "0x1002", "0000:03:00.0")
    put(1, "0x8086", "0000:04:00.0")
    assert [gpu.usable for gpu in found(tmp_path / "drm")] == [True, False]


def test_a_machine_without_graphics_has_none(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["__version__ = '2.13.0+cpu'", "cuda: Optional[str] = None", "hip: Optional[str] = None"], ()),
        (["__version__ = '2.13.0+cu130'", "cuda: Optional[str] = '13.0'", "hip: Optional[str] = None"], ("cuda",)),
        (["__version__ = '2.13.0+rocm7'", "cuda: Optional[str] = None", "hip: Optional[str] = '7.0'"], ("hip",)),
        (["__version__ = '2.13.0+xpu'", "cuda = None", "xpu = '20250301'"], ("xpu",)),
    ],
)
def test_how_torch_was_built_is_known_without_loading_it(
    tmp_path: Path, lines: list[str], expected: tuple[str, ...]
) -> None:
    (tmp_path / "version.py").write_text("\n".join(lines))
    assert torch_build(tmp_path) == TorchBuild(lines[0].split("'")[1], frozenset(expected))


def test_this_torch_says_how_it_was_built() -> None:
    import torch

    known = torch_build()
    assert known.version == torch.__version__
    assert ("cuda" in known.backends) == (torch.version.cuda is not None)
