"""Whether a model's weights are those that its configuration asks for, and the error to raise if they are not."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.contract.messages import InputError
from engine.contract.texts import Phrase

Shapes = Mapping[str, Sequence[int]]


def require_fit(
    path: Path, wanted: Shapes, same: Iterable[Sequence[str]], have: Shapes, settings: Mapping[str, int] | None = None
) -> None:
    """Raises InputError if the tensors that a file has, by name, are not those that a model wants.

    Each entry of `same` lists names of one shared tensor, of which one is enough; those after the first need not be in
    `wanted`. `settings` are those that would fit.
    """
    group = {name: names for names in same for name in names}
    found = {name: tuple(shape) for name, shape in have.items()}
    for name in have.keys() & group.keys() - wanted.keys():
        found.setdefault(group[name][0], found[name])
    missing = {group.get(name, [name])[0] for name in wanted if not {name, *group.get(name, ())} & found.keys()}
    unexpected = found.keys() - wanted.keys() - group.keys()
    mismatched = [name for name in found.keys() & wanted.keys() if found[name] != tuple(wanted[name])]
    if missing or unexpected or mismatched:
        raise misfit(path, missing, unexpected, mismatched, settings)


def misfit(
    path: Path,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[str],
    settings: Mapping[str, int] | None = None,
) -> InputError:
    """The error for weights that do not fit: how many, the first of each kind, and the settings that would fit."""
    groups = {"missing": sorted(missing), "unexpected": sorted(unexpected), "mismatched": sorted(mismatched)}
    counts = {f"{name}_count": len(group) for name, group in groups.items()}
    shown = {name: ", ".join(group[:3]) + (", …" * (len(group) > 3)) or "-" for name, group in groups.items()}
    advice = Phrase(f"model.unfit_{'folder' if path.is_dir() else 'file'}")  # a folder states its shape itself
    return InputError("model_keys", path=str(path), **counts, **shown, **(settings or {}), advice=advice)
