"""Hostile files: pickles with code in them, false headers, JSON that is too large or too deep."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DEEP = 100_000  # levels of nesting; Python's own reader gives up at about a thousand
HUGE = "9" * 5000  # more digits than Python makes a number of
Make = Callable[[Path, Path], object]  # puts a file into the place of its first argument; the canary is the second


class Trap:
    """Makes the canary, a folder, when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._canary),)


def zipped(path: Path, canary: Path) -> None:
    """As torch writes it today."""
    torch.save({"shared.weight": torch.ones(2, 2), "trap": Trap(canary)}, path)


def legacy(path: Path, canary: Path) -> None:
    """As torch wrote it before 1.6."""
    torch.save({"shared.weight": torch.ones(2, 2), "trap": Trap(canary)}, path, _use_new_zipfile_serialization=False)


def plain(path: Path, canary: Path) -> None:
    """As Python writes it."""
    path.write_bytes(pickle.dumps({"shared.weight": Trap(canary)}))


PICKLES: dict[str, Make] = {"zip": zipped, "legacy": legacy, "plain": plain}


def bring_code(folder: Path, config: str, canary: Path, **changes: Any) -> None:
    """Adds a module to a folder that makes the canary, and lets its configuration ask for it to be imported."""
    classes = {"AutoConfig": "evil.C", "AutoModelForSeq2SeqLM": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    change(folder / config, {"auto_map": classes, **changes})


def change(path: Path, changes: dict[str, Any]) -> None:
    """Changes a JSON file; values of an object in it are changed one by one."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(content.get(name), dict) else value
    path.write_text(json.dumps(content))


def safetensors(header: object, size: int | None = None, body: bytes = b"\0" * 64) -> bytes:
    """A file with this header, which is text or JSON, and whose length is declared as `size`."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def one(shape: list[int], end: int, start: int = 0, dtype: str = "F32") -> dict[str, Any]:
    """A header with one tensor."""
    return {"shared.weight": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}


SOUND = one([4, 4], 64)
LIES: dict[str, bytes] = {
    "nothing": b"",
    "half a length": b"\x08\0\0",
    "a length of nothing": safetensors(SOUND, 0),
    "a length beyond the end": safetensors(SOUND, 10_000),
    "a length of 100 MB": safetensors(SOUND, 100_000_000),
    "a length of 16 EB": safetensors(SOUND, (1 << 64) - 1),
    "a length that is cut": safetensors(SOUND, 20),
    "no JSON": safetensors("{" * 50),
    "a list": safetensors([1, 2]),
    "deep lists": safetensors("[" * DEEP),
    "deep objects": safetensors('{"a":' * DEEP),
    "a huge number": safetensors(json.dumps(SOUND).replace("[4, 4]", f"[{HUGE}]")),
    "a tensor of 4 TB": safetensors(one([1 << 40], 1 << 42)),
    "a tensor of 16 EB": safetensors(one([1 << 62], 64)),
    "a size that overflows": safetensors(one([1 << 32, 1 << 32], 0)),
    "a negative size": safetensors(one([-4, -4], 64)),
    "an end before the start": safetensors(one([4, 4], 0, start=64)),
    "a type that there is not": safetensors(one([4, 4], 64, dtype="PICKLE")),
    "a body that is too short": safetensors(SOUND, body=b"\0" * 63),
    "a body that is too long": safetensors(SOUND, body=b"\0" * 65),
    "no tensor": safetensors({}, body=b""),
    "metadata of another kind": safetensors({"__metadata__": [1], **SOUND}),
    "a name that is no text": safetensors(json.dumps(SOUND).replace("shared.weight", "\\ud800")),
}

BOMBS: dict[str, str] = {
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "a deep value": '{"model_type": "t5", "run": ' + "[" * DEEP + "]" * DEEP + "}",
    "deep and never closed": "[" * DEEP,
    "a huge number": HUGE,
    "a huge value": f'{{"model_type": "t5", "d_model": {HUGE}, "step": {HUGE}, "version": {HUGE}}}',
    "a huge power": '{"model_type": "t5", "d_model": 1e999, "step": 1e999, "version": 1e999}',
    "a list": "[]",
    "nothing": "",
    "null": "null",
    "a text": '"text"',
    "no UTF-8": "\udcff\udcfe",
    "half a pair": '{"model_type": "\\ud800", "version": "\\ud800"}',
}


def write_bomb(path: Path, bomb: str) -> None:
    """Writes one of BOMBS; its lone surrogates stand for bytes that are not UTF-8."""
    path.write_text(BOMBS[bomb], encoding="utf-8", errors="surrogateescape")
