"""A driver library made for tests, which the real binding loads in the processes that a test starts."""

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.required import required

SOURCE = Path(__file__).with_name("nvml_stub.c")


def build(folder: Path, *defines: str) -> Path:
    """Compiles the library into `folder`."""
    compiler = required(shutil.which("cc"), "the C compiler `cc`, to make a driver library with,")
    options = ["-shared", "-fPIC", *(f"-D{name}" for name in defines)]
    subprocess.run([compiler, *options, "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)], check=True)
    return folder


def use(monkeypatch: pytest.MonkeyPatch, library: Path, mode: str) -> None:
    """Has processes that are started from now on find the library in this folder, which then acts as `mode` says."""
    before = os.environ.get("LD_LIBRARY_PATH")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library) if before is None else f"{library}:{before}")
    monkeypatch.setenv("STUB_NVML", mode)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def children() -> set[int]:
    """The pids of this process's children, ended ones that nobody has reaped among them."""
    return {child.pid for child in psutil.Process().children()}
