"""Which files of a repository make the model that is trained, and what a repository is that has no such files."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.obtaining.repository import Listing, RemoteFile, Repository

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
TAKEN = frozenset({
    "config.json", "generation_config.json", INDEX,
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json", "README.md",
})  # fmt: skip
ALSO_TAKEN = re.compile(
    r"(?:[\w-]+\.model|additional_chat_templates/[\w.-]+\.jinja"
    r"|(?:LICEN[CS]E|NOTICE|COPYING|USE_POLICY|USAGE_POLICY)[\w-]*(?:\.\w{1,4})?)",
    re.ASCII | re.IGNORECASE,
)
MOST_TEXT = 64 << 20  # bytes of a file that is not weights; the largest tokenizers have 35 MB
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER_WEIGHTS = (
    *PICKLES,
    ".safetensors",
    ".gguf",
    ".onnx",
    ".onnx_data",
    ".h5",
    ".msgpack",
    ".ot",
    ".tflite",
    ".mlmodel",
)
CODE = (".py", ".ipynb", ".sh", ".so", ".cu", ".cpp")
MOST_NAMED = 3


@dataclass(frozen=True)
class Choice:
    """The files to download, weights last, and how many others there are, by reason: "code", "weights", "other"."""

    files: tuple[RemoteFile, ...]
    left_out: dict[str, int]

    @property
    def bytes(self) -> int:
        """The size of the files."""
        return sum(file.size for file in self.files)


def chosen(repository: Repository, listing: Listing) -> Choice:
    """The files that are taken of a repository; raises InputError saying what it is if it holds no such model."""
    taken = [file for file in listing.files if _is_text(file)]
    weights = _weights(listing)
    if not weights or listing.file("config.json") is None:
        raise _something_else(repository, listing)
    names = {file.name for file in (*taken, *weights)}
    left_out = Counter(_why(file.name) for file in listing.files if file.name not in names)
    ordered = sorted(taken, key=lambda file: (file.name != "config.json", file.size))
    return Choice((*ordered, *weights), dict(left_out))


def _is_text(file: RemoteFile) -> bool:
    return (file.name in TAKEN or bool(ALSO_TAKEN.fullmatch(file.name))) and file.size <= MOST_TEXT


def _weights(listing: Listing) -> list[RemoteFile]:
    """The one file of weights, or the parts that its index names once it was read."""
    if whole := listing.file(WEIGHTS):
        return [whole]
    parts = [file for file in listing.files if SHARD.fullmatch(file.name)]
    return sorted(parts, key=lambda file: file.name) if listing.file(INDEX) else []


def _why(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return "code" if suffix in CODE else "weights" if suffix in OTHER_WEIGHTS else "other"


def require_named_parts(repository: Repository, index: bytes, files: Iterable[RemoteFile]) -> None:
    """Raises InputError unless the parts that an index names are files that were chosen."""
    try:
        named = set(json.loads(index)["weight_map"].values())
        missing = sorted(named - {file.name for file in files})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        missing = [INDEX]
    if missing:
        raise InputError("hub_part_missing", id=repository.id, part=str(missing[0])[:200])


def _something_else(repository: Repository, listing: Listing) -> InputError:
    """What a repository is that has no safetensors of a whole model, from the names of its files."""
    names = [file.name for file in listing.files]
    base = listing.base or Phrase("hub_kind.base_unnamed")
    other = listing.base or "OWNER/NAME"
    kinds = {
        "adapter": [name for name in names if PurePosixPath(name).name.startswith("adapter_")],
        "pipeline": [name for name in names if name == "model_index.json"],
        "gguf": [name for name in names if name.endswith(".gguf")],
        "pickle": [name for name in names if name.endswith(PICKLES)],
        "other_weights": [name for name in names if name.endswith(OTHER_WEIGHTS)],
    }
    kind, found = next(((kind, found) for kind, found in kinds.items() if found), ("empty", names))
    shown = tuple(name[:100] for name in found[:MOST_NAMED]) or "-"
    return InputError(
        "hub_kind", id=repository.id, kind=Phrase.of(f"hub_kind.{kind}.what", base=base, files=shown, count=len(found)),
        advice=Phrase.of(f"hub_kind.{kind}.fix", base=base, other=other, id=repository.id, files=shown),
    )  # fmt: skip
