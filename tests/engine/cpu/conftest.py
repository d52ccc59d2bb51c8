"""The kinds of compiled code that the tests go through, and the number of threads."""

import ctypes
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import torch

from engine.contract import native_library
from engine.cpu import native
from tests.required import required


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The code for a processor without AVX, as it is compiled on ARM."""
    gcc = required(shutil.which("gcc"), "gcc")
    path = tmp_path_factory.mktemp("portable") / "kernels.so"
    files = [str(file) for file in native_library.sources() if file.suffix == ".c"]
    flags = [
        *native_library.COMPILED,
        *native_library.FLAGS["aarch64"]["neon"],
        "-shared",
        "-fPIC",
        '-DSOURCE_DIGEST=""',
    ]
    subprocess.run([gcc, *flags, *files, "-o", str(path), "-lm"], check=True)
    return native.prepared(ctypes.CDLL(str(path)))


@pytest.fixture(params=["portable", "avx2", "avx512"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of code that this processor can run."""
    if request.param == "portable":
        library = request.getfixturevalue("portable")
    elif request.param not in native_library.kinds():
        pytest.skip(f"this processor has no {request.param}")
    else:
        library = required(native._loaded(request.param), f"the code compiled for {request.param}")
    monkeypatch.setattr(native, "library", lambda: library)


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
