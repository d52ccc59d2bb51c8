"""The families of models that can be trained: a family is a folder, and one line here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig
from engine.contract.durable import read_json
from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.models import structure
from engine.models.causal.family import Causal
from engine.models.family import Family, FamilyBySettings
from engine.models.model_folder import ModelFolder, Settings, read_folder
from engine.models.seq2seq.family import Seq2Seq
from engine.models.t5.family import T5

if TYPE_CHECKING:
    from engine.models.freezing import Parts

AUTO = RunConfig.family
CONFIG = "config.json"
BY_SETTINGS: FamilyBySettings = T5()
FAMILIES: list[Family] = [
    BY_SETTINGS,
    Seq2Seq(),
    Causal(),
]


def family_by(settings: Settings) -> Family | None:
    """The family of a model with such a config.json; None if it is not known."""
    return next((family for family in FAMILIES if family.fits(settings)), None)


def family_for(config: RunConfig) -> Family:
    """The family that the rows of a run are made for, by its settings and its model's config.json alone.

    A folder that is not a known model is an error of the model: its rows are read as those of new models.
    """
    if config.family != AUTO:
        return next(family for family in FAMILIES if family.name == config.family)
    path = Path(config.pretrained_model)
    found = family_by(read_json(path / CONFIG)) if config.pretrained_model and path.is_dir() else None
    return found or BY_SETTINGS


def require_chosen(path: str, found: Family, chosen: str) -> None:
    """Raises InputError if the setting `family` says another family than a model's, named `path`."""
    if chosen not in (AUTO, found.name):
        raise InputError("family_differs", path=path, kind=Phrase(f"family.{found.name}"), chosen=chosen)


def opened(path: Path, chosen: str = AUTO) -> tuple[Family, ModelFolder]:
    """The family and the content of a model's folder; raises InputError if it is not one, saying what it is.

    `chosen` is the setting `family`.
    """
    folder = read_folder(path)
    for family in FAMILIES:
        family.require(folder)
    found = family_by(folder.settings)
    if found is None:
        raise structure.unknown(folder.path, folder.settings, folder.tensors)
    require_chosen(str(path), found, chosen)
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
