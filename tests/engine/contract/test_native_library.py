"""Which library of the code in C is used, with libraries made for tests."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.contract import native_library
from engine.contract.native_library import Fault
from tests.processes import run
from tests.required import required

Libraries = Callable[..., None]
OWN = native_library.digest()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was looked up before this test, and in it."""
    native_library.library.cache_clear()
    yield
    native_library.library.cache_clear()


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Libraries:
    """Gives each kind of processor a library with these lines of C, or none; this processor runs both kinds."""
    required(shutil.which("gcc"), "gcc")
    find_spec = importlib.util.find_spec

    def make(**sources: str) -> None:
        for kind, lines in sources.items():
            command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(tmp_path / f"{kind}.so")]
            subprocess.run(command, input=lines.encode(), check=True)

        def spec(name: str) -> object:
            kind = name.rpartition("_kernels_")[2]
            if kind == name:
                return find_spec(name)
            return SimpleNamespace(origin=str(tmp_path / f"{kind}.so")) if kind in sources else None

        monkeypatch.setattr(importlib.util, "find_spec", spec)
        monkeypatch.setattr(native_library, "kinds", lambda: ("avx512", "avx2"))

    return make


def source(digest: str) -> str:
    """C that says it was compiled from this source."""
    return f'const char source[] = "{digest}";'


def test_a_library_of_this_source_is_used_however_old_its_file_is(libraries: Libraries, tmp_path: Path) -> None:
    libraries(avx512=source(OWN))
    (tmp_path / "avx512.so").touch()
    subprocess.run(["touch", "-d", "2001-01-01", str(tmp_path / "avx512.so")], check=True)
    assert not isinstance(native_library.library("avx512"), Fault)
    assert native_library.fault() is None


@pytest.mark.parametrize("digest", ["0" * 64, OWN[:-1] + "x", OWN[:12], ""])
def test_a_library_of_another_source_is_stale_however_new_it_is(libraries: Libraries, digest: str) -> None:
    libraries(avx512=source(digest), avx2="const int interface = 5;")
    assert native_library.fault() == Fault("stale")


def test_no_library_is_reported_as_missing(libraries: Libraries) -> None:
    libraries()
    assert native_library.fault() == Fault("missing")


def test_a_library_that_cannot_be_loaded_says_why(libraries: Libraries, tmp_path: Path) -> None:
    libraries(avx2=source(OWN))
    (tmp_path / "avx2.so").write_bytes(b"\x7fELF and then nothing")
    found = native_library.fault()
    assert found is not None
    assert found.code == "unloadable"
    assert "avx2.so" in found.why


def test_a_library_that_lacks_another_names_it(libraries: Libraries, tmp_path: Path) -> None:
    needed = tmp_path / "libnobody_has_it.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(needed)], input=b"int it;", check=True)
    linked = ["-x", "none", "-Wl,--no-as-needed", f"-L{tmp_path}", "-lnobody_has_it"]
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", *linked]
    libraries(avx2="")
    subprocess.run([*command, "-o", str(tmp_path / "avx2.so")], input=source(OWN).encode(), check=True)
    needed.unlink()
    found = native_library.fault()
    assert found is not None
    assert found.why.startswith("libnobody_has_it.so: cannot open shared object file")


def test_the_next_best_kind_is_used_if_the_best_was_not_compiled(libraries: Libraries) -> None:
    libraries(avx2=source(OWN))
    assert isinstance(native_library.library("avx512"), Fault)
    assert native_library.fault() is None


def test_a_processor_of_another_family_lacks_nothing(libraries: Libraries, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries()
    monkeypatch.setattr(native_library, "kinds", tuple)
    assert native_library.fault() is None


def test_looking_for_the_library_needs_no_torch(tmp_path: Path) -> None:
    lines = "import sys; from engine.contract.native_library import fault; fault(); assert 'torch' not in sys.modules"
    assert run(sys.executable, "-P", "-c", lines, folder=tmp_path).code == 0
