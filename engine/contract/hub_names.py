"""Names of models on a hub, as people type them and paste them from its pages."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from engine.contract.messages import InputError

Source = Literal["huggingface", "modelscope"]
SOURCES: tuple[Source, ...] = get_args(Source)
LONGEST = 96  # characters of a name, the hubs' own limit
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
HOSTS: dict[str, Source] = {
    "huggingface.co": "huggingface",
    "hf.co": "huggingface",
    "hf-mirror.com": "huggingface",
    "modelscope.cn": "modelscope",
    "modelscope.ai": "modelscope",
}
WHAT_FOLLOWS = ("tree", "blob", "resolve", "commit", "raw", "file")  # in a link, before the revision
OTHER_KINDS = ("datasets", "spaces", "collections", "papers", "docs", "studios")  # in a link, before the name
OWN_FOLDERS = ("models", "model_save", "data", "logs", "checkpoints", "outputs", "output", "tmp")
OF_FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".h5", ".onnx", ".parquet", ".zip")


@dataclass(frozen=True)
class HubName:
    """A model on a hub; an empty `revision` or `source` was not named."""

    id: str
    revision: str = ""
    source: Source | Literal[""] = ""

    @property
    def folder(self) -> Path:
        """Where it is kept unless another folder is named."""
        return Path("models") / self.id.rpartition("/")[2]


def hub_name(text: str) -> HubName:
    """The model that a name such as `Qwen/Qwen3-0.6B`, or a link to its page, stands for; raises InputError."""
    text = text.strip().removeprefix("hf://").removeprefix("models/")
    try:
        link = urlsplit(text if "://" in text else f"https://{text}")
        host = (link.hostname or "").removeprefix("www.")
    except ValueError:  # of brackets that hold no address
        host = ""
    if host not in HOSTS:
        return HubName(_checked(text))
    parts = [unquote(part) for part in link.path.split("/") if part]
    if parts and parts[0] in OTHER_KINDS:
        raise InputError("hub_name_other", name=text, kind=parts[0])
    if parts and parts[0] == "models":
        parts = parts[1:]
    cut = next((place for place, part in enumerate(parts) if place and part in WHAT_FOLLOWS), len(parts))
    name = _checked("/".join(parts[:2] if cut == len(parts) else parts[:cut]))
    return HubName(name, "/".join(parts[cut + 1 : cut + 2]), HOSTS[host])


def _checked(name: str) -> str:
    if not NAME.fullmatch(name) or len(name) > LONGEST or ".." in name or "--" in name:
        raise InputError("hub_name_bad", name=name)
    return name


def looks_like_hub_name(path: str) -> bool:
    """Whether the name of a missing folder is rather that of a model on a hub: OWNER/NAME, or a link to one."""
    if os.path.lexists(path) or path.lower().endswith(OF_FILES):
        return False
    try:
        found = hub_name(path)
    except InputError:
        return False
    owner, slash, _ = found.id.partition("/")
    return bool(found.source) or (bool(slash) and owner not in OWN_FOLDERS and not os.path.isdir(owner))
