"""The package as a wheel, installed where no checkout is."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract.texts import LANGS
from tests.processes import Result, run

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
Called = Callable[..., Result]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of the source."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    built = run(*pip, "wheel", "--no-deps", "-w", ".", "./source", folder=folder, limit=600)
    assert built.code == 0, built.err
    (found,) = folder.glob("*.whl")
    installed = run(*pip, "install", "--no-deps", "--target", "installed", found.name, folder=folder)
    assert installed.code == 0, installed.err
    return found


@pytest.fixture
def called(wheel: Path, tmp_path: Path) -> Called:
    """Calls Python elsewhere, with the wheel's packages in front of the checkout's."""

    def call(*arguments: str, limit: float = 240) -> Result:
        env = {"PYTHONPATH": str(wheel.parent / "installed"), "PATH": os.environ["PATH"]}
        return run(sys.executable, "-P", *arguments, folder=tmp_path, env=env, limit=limit)

    return call


def test_the_wheel_has_all_files_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (metadata,) = [name for name in names if name.endswith("/METADATA")]
        lines = file.read(metadata).decode().splitlines()
    assert {"engine/py.typed", "sft_tui/py.typed", "engine/cpu/kernels.h", "engine/cpu/attention.c"} <= set(names)
    assert {f"engine/contract/locale/{lang}/LC_MESSAGES/texts.mo" for lang in LANGS} <= set(names)
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    assert {"License-Expression: Apache-2.0", "Author: sft-tui contributors"} <= set(lines)


def test_the_wheels_compiled_code_is_used(called: Called, wheel: Path) -> None:
    lines = "import engine; from engine.contract import native_library; print(engine.__file__, native_library.fault())"
    found = called("-c", lines).out
    assert found.startswith(str(wheel.parent / "installed"))
    assert found.strip().endswith("None")
    called("-m", "sft_tui", "data", "demo")
    checked = called("-m", "sft_tui", "check", "demo-t5", "--json").out
    assert '"machine"' in checked
    assert not [code for code in ("uncompiled", "uncompiled_wheel", "unloadable") if f'"{code}"' in checked]


def test_the_demo_works_outside_a_checkout(called: Called, tmp_path: Path) -> None:
    reported = called("-m", "sft_tui", "demo", "--t5", "--no-ui", limit=1500)
    assert reported.code == 0, reported.err
    assert "Talk to it" in reported.err
    assert (tmp_path / "model_save" / "demo" / "sft" / "best" / "model.safetensors").is_file()
