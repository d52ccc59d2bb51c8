"""The families of models that can be trained: a family is a folder, and one line here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.messages import InputError
from engine.models import structure
from engine.models.family import Family, FamilyBySettings
from engine.models.model_folder import ModelFolder, Settings, read_folder
from engine.models.seq2seq.family import Seq2Seq
from engine.models.t5.family import T5

if TYPE_CHECKING:
    from engine.models.freezing import Parts

BY_SETTINGS: FamilyBySettings = T5()
FAMILIES: list[Family] = [
    BY_SETTINGS,
    Seq2Seq(),
]


def family_by(settings: Settings) -> Family | None:
    """The family of a model with such a config.json; None if it is not known."""
    return next((family for family in FAMILIES if family.fits(settings)), None)


def opened(path: Path) -> tuple[Family, ModelFolder]:
    """The family and the content of a model's folder; raises InputError if it is not one, saying what it is."""
    folder = read_folder(path)
    for family in FAMILIES:
        family.require(folder)
    found = family_by(folder.settings)
    if found is None:
        raise structure.unknown(folder.path, folder.settings, folder.tensors)
    return found, folder


def family_of(model: Any) -> Family:
    """The family of a loaded model."""
    found = family_by({"model_type": model.config.model_type})
    if found is None:
        raise InputError("model_bad", path=model.config.model_type, why="its family is not known here")
    return found


def parts_of(model: Any) -> "Parts":
    """The parameters that `--freeze` means by the name of a part of this model."""
    return family_of(model).parts(model)
