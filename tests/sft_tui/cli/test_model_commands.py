"""The commands for models."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.gguf_files import small_llama, write_gguf
from tests.hub import Hub, Repo, serving
from tests.processes import SFT_TUI, kill_tree, run, until


@pytest.fixture(scope="module")
def files(tiny_t5: Path, tiny_tokenizer: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in (tiny_tokenizer, tiny_t5) for path in folder.iterdir()}


def test_a_model_is_downloaded_and_checked(files: dict[str, bytes], tmp_path: Path) -> None:
    with serving(Hub(repos={"me/tiny": Repo({**files, "x.py": b"1"})})) as hub:
        env = {"HF_ENDPOINT": hub.url}
        got = run(*SFT_TUI, "model", "get", "me/tiny", folder=tmp_path, env=env)
        assert got.code == 0, got.err
        assert "me/tiny is in models/tiny" in got.out
        assert "1 file of code" in got.out
        again = run(*SFT_TUI, "model", "get", "me/tiny", "--json", folder=tmp_path, env=env)
        assert json.loads(again.out)["existed"] is True
        missing = run(*SFT_TUI, "model", "get", "me/huge", folder=tmp_path, env=env)
        assert (missing.code, missing.out) == (2, "")
        assert "has no model me/huge" in missing.err


def test_an_interrupted_download_says_how_to_continue(files: dict[str, bytes], tmp_path: Path) -> None:
    with serving(Hub(repos={"me/tiny": Repo(files)}, stalls={"model.safetensors"})) as hub:
        process = subprocess.Popen(
            [*SFT_TUI, "model", "get", "me/tiny"], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "HF_ENDPOINT": hub.url, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        try:
            until(lambda: bool(list(tmp_path.glob("models/.tmp-sft-get-tiny/model.safetensors.*.part"))))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        finally:
            kill_tree(process)
    assert b"the same command continues the download of me/tiny" in err
    assert not (tmp_path / "models/tiny").exists()


def test_a_gguf_file_becomes_a_folder(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", small_llama(), kind="Q8_0")
    done = run(*SFT_TUI, "model", "import", "tiny.gguf", "tiny", folder=tmp_path)
    assert done.code == 0, done.err
    assert "Tiny is in tiny: llama" in done.out
    assert "quantized (Q8_0)" in done.out
    assert done.err.splitlines()[0] == "Step 1 of 4: reading the file"
    shown = run(*SFT_TUI, "model", "show", "tiny", folder=tmp_path)
    assert shown.code == 0, shown.err
    assert "causal (llama)" in shown.out
    assert json.loads(run(*SFT_TUI, "model", "show", "tiny", "--json", folder=tmp_path).out)["template"]["one_row"]
    again = run(*SFT_TUI, "model", "import", "tiny.gguf", "tiny", folder=tmp_path)
    assert (again.code, again.out) == (2, "")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    bad = run(*SFT_TUI, "model", "import", "bad.gguf", "bad", "--json", folder=tmp_path)
    assert (bad.code, bad.out) == (2, "")
    assert "bad.gguf cannot be read as GGUF" in bad.err
