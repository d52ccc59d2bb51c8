"""What the path of a setting may be: recent values, what lies here, the cache of the hub, folders; by names alone."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from engine.contract.hub_names import hub_name, looks_like_hub_name
from engine.contract.inputs import has_tokenizer
from sft_tui import demo_model
from sft_tui.here import DATA_ENDS, DATA_FOLDERS, GGUF, MODEL_FOLDERS, data_files, entries, model_at, model_places

Fitting = Literal["rows", "model", "tokenizer", "folder"]  # what a setting takes
Kind = Literal["recent", "here", "cached", "demo", "hub", "file", "folder", "typed"]
ROWS = ("train_file", "validation_file", "test_file", "source")
MOST = 200  # candidates
HOME = "~/"


@dataclass(frozen=True)
class Candidate:
    """A path that may be chosen; `name` is what is shown of it. A folder can be entered, and chosen if it fits."""

    path: str
    kind: Kind
    name: str
    folder: bool = False
    fits: bool = True


def fitting(setting: str) -> Fitting:
    """What a setting takes."""
    if setting in ROWS:
        return "rows"
    special: dict[str, Fitting] = {"pretrained_model": "model", "tokenizer": "tokenizer"}
    return special.get(setting, "folder")


def candidates(setting: str, typed: str, recent: Sequence[str] = ()) -> list[Candidate]:
    """What the typed text may mean, the best first: below a folder if it is a path, else what has all its words."""
    what = fitting(setting)
    if is_path(typed):
        found = list(islice(_below(what, typed), MOST))  # what each folder holds is looked at
    else:
        words = typed.lower().split()
        found = [one for one in _at_first(what, recent) if all(word in one.name.lower() for word in words)]
    more = [*_typed(what, typed, found), *_on_hub(what, typed)]
    return [*found[:MOST], *more]


def expanded(path: str) -> str:
    """A path with the home folder in place of a leading `~`."""
    return os.path.expanduser(path)


def is_path(typed: str) -> bool:
    """Whether a text is a path to look below, and not words to filter by."""
    return (os.sep in typed and not _names_model(typed)) or typed in ("~", ".", "..")


def _names_model(typed: str) -> bool:
    """Whether a text is the name of a model on a hub, or a link to one."""
    if typed.startswith(("~", ".", os.sep)) or typed.endswith(os.sep):
        return False
    return looks_like_hub_name(typed) and not os.path.isdir(os.path.dirname(typed))


def split(typed: str) -> tuple[str, str]:
    """The folder that a path is below, as typed and with its separator, and the beginning of a name in it."""
    if typed in ("~", ".", ".."):
        return f"{typed}{os.sep}", ""
    head, separator, rest = typed.rpartition(os.sep)
    return f"{head}{separator}", rest


def parent(typed: str) -> str:
    """The folder above the one that is typed, as a text to type; the one above the working folder for no path."""
    head = split(typed)[0] if is_path(typed) else ""
    if not head:
        return f"..{os.sep}"
    above = head.rstrip(os.sep)
    if above in ("", "~") or above.endswith(".."):
        full = os.path.abspath(os.path.expanduser(head))
        return f"{head}..{os.sep}" if above.endswith("..") else f"{os.path.dirname(full).rstrip(os.sep)}{os.sep}"
    found = f"{os.path.dirname(above).rstrip(os.sep)}{os.sep}" if os.sep in above else ""
    return "" if found == f".{os.sep}" else found


def completed(typed: str, found: Sequence[Candidate]) -> str:
    """A path with the part that all candidates which begin like it have in common; a single folder is entered."""
    names = [one for one in found if one.kind in ("file", "folder")]
    if not names or not is_path(typed):
        return typed
    first, last = min(one.path for one in names), max(one.path for one in names)
    same = next((place for place, char in enumerate(first) if not last.startswith(char, place)), len(first))
    common = first[:same]
    if len(common) < len(typed):
        return typed
    alone = len(names) == 1 and names[0].folder
    return common if not alone or common.endswith(os.sep) else f"{common}{os.sep}"


def _at_first(what: Fitting, recent: Sequence[str]) -> Iterator[Candidate]:
    """Recent values, then what fits here, the demo's model, the cache of the hub, and folders to look in."""
    seen: set[str] = set()
    for one in (*_recent(what, recent), *_here(what), *_folders(".", "")):
        if one.path not in seen:
            seen.add(one.path)
            yield one
    yield Candidate(HOME, "folder", HOME, folder=True, fits=what == "folder")


def _recent(what: Fitting, recent: Sequence[str]) -> Iterator[Candidate]:
    for path in recent:
        full = os.path.expanduser(path)
        if what == "folder" or os.path.exists(full):
            yield Candidate(path, "recent", path, folder=os.path.isdir(full))


def _here(what: Fitting) -> Iterator[Candidate]:
    if what == "rows":
        for file in data_files(DATA_FOLDERS):
            yield Candidate(file.path, "here", file.path)
    if what == "tokenizer":
        for folder in (*_folders(".", ""), *_folders("model_save", "model_save/"), *_folders("models", "models/")):
            if has_tokenizer(folder.path):
                yield Candidate(folder.path, "here", folder.path, folder=True)
    if what == "model":
        for model in model_places(MODEL_FOLDERS):
            yield Candidate(model.path, "here", model.path, folder=model.kind != "gguf")
        yield Candidate(str(demo_model.folder()), "demo", demo_model.NAME, folder=demo_model.is_kept())
        yield from _cached()


def _cached() -> Iterator[Candidate]:
    """The models in the cache of the hub."""
    given = os.environ.get("HF_HUB_CACHE") or os.path.join(os.environ.get("HF_HOME") or "~/.cache/huggingface", "hub")
    hub = os.path.expanduser(given)
    for entry, _ in entries(hub):
        owner, _, name = entry.name.removeprefix("models--").partition("--")
        if not entry.name.startswith("models--"):
            continue
        for snapshot, _ in entries(os.path.join(entry.path, "snapshots")):
            if model_at(snapshot.path) is not None:
                yield Candidate(snapshot.path, "cached", f"{owner}/{name}" if name else owner, folder=True)


def _folders(place: str, typed: str) -> Iterator[Candidate]:
    """The folders in a place, by name."""
    names = sorted(entry.name for entry, _ in entries(place) if _is_folder(entry))
    for name in names:
        yield Candidate(f"{typed}{name}", "folder", f"{typed}{name}{os.sep}", folder=True, fits=False)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _below(what: Fitting, typed: str) -> Iterator[Candidate]:
    """The folders and the fitting files in a folder whose names begin as typed."""
    head, begin = split(typed)
    place = os.path.expanduser(head)
    for folder in _folders(place, head):
        if os.path.basename(folder.path).startswith(begin):
            fits = _fits(what, os.path.expanduser(folder.path))
            yield Candidate(folder.path, "folder", folder.name, folder=True, fits=fits)
    ends = {"rows": DATA_ENDS, "model": (GGUF, ".bin", ".safetensors", ".pt")}.get(what, ())
    for name in sorted(entry.name for entry, _ in entries(place) if not _is_folder(entry)):
        if name.startswith(begin) and ends and name.lower().endswith(ends):
            yield Candidate(f"{head}{name}", "file", f"{head}{name}")


def _fits(what: Fitting, folder: str) -> bool:
    """Whether a folder is what a setting takes."""
    if what == "model":
        return model_at(folder) is not None
    return what == "folder" or (what == "tokenizer" and has_tokenizer(folder))


def _typed(what: Fitting, typed: str, found: Sequence[Candidate]) -> Iterator[Candidate]:
    """The text itself, if it can be the path: any for a folder to write to, else one that exists."""
    path = os.path.expanduser(typed.strip())
    if not path or any(one.path.rstrip(os.sep) == typed.rstrip(os.sep) for one in found):
        return
    exists = os.path.isfile(path) if what == "rows" else os.path.exists(path) and _fits(what, path)
    if what == "folder" or exists:
        yield Candidate(typed.strip(), "typed", typed.strip())


def _on_hub(what: Fitting, typed: str) -> Iterator[Candidate]:
    """The model on a hub that the text names."""
    if what == "model" and _names_model(typed.strip()):
        yield Candidate(typed.strip(), "hub", hub_name(typed.strip()).id)


def is_gguf(path: str) -> bool:
    """Whether a file holds a model that has to be converted."""
    return path.lower().endswith(GGUF) and Path(path).is_file()
