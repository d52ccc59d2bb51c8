"""Whether a model can be trained, from its config.json and the headers of its weights, before those are downloaded."""

import shutil
import tempfile
from pathlib import Path

from engine.contract.messages import InputError, Value
from engine.contract.texts import Phrase
from engine.models.registry import opened
from engine.obtaining.choice import INDEX, Choice
from engine.obtaining.repository import Listing, RemoteFile, Repository
from engine.obtaining.transfer import weights_header


def require_trainable(repository: Repository, listing: Listing, choice: Choice, here: Path) -> None:
    """Raises InputError saying what a model is if no family here can train it, as the check would of its folder.

    `here` holds its config.json, and its index if it has one. The files of weights are read as far as they describe
    their tensors; what follows is a hole of the same size, which takes no room on the disk.
    """
    weights = [file for file in choice.files if file.name.endswith(".safetensors")]
    with tempfile.TemporaryDirectory(prefix="sft-preview-") as folder:
        path = Path(folder)
        for name in ("config.json", INDEX):
            if (here / name).is_file():
                shutil.copyfile(here / name, path / name)
        for file in weights:
            _write_header(repository, listing, file, path / file.name)
        try:
            opened(path)
        except InputError as error:
            args = {name: _renamed(value, folder, repository.id) for name, value in error.message.args.items()}
            code = "hub_kind" if "kind" in args else "hub_untrainable"
            raise InputError(code, **{**args, "id": repository.id}) from None


def _write_header(repository: Repository, listing: Listing, file: RemoteFile, path: Path) -> None:
    try:
        header = weights_header(repository.url(listing, file), repository.headers())
    except ValueError:
        raise InputError("hub_untrainable", id=repository.id, why=Phrase("why.no_safetensors")) from None
    with path.open("wb") as made:
        made.write(header)
        made.truncate(file.size)


def _renamed(value: Value, folder: str, id: str) -> Value:
    return value.replace(folder, id) if isinstance(value, str) else value
