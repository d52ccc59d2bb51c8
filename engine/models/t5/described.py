"""Facts about a T5 by its settings and its tensors; without torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig, names_in
from engine.contract.facts import ModelFacts, Sizes, SpecialTokens
from engine.contract.untrusted import reading_untrusted
from engine.models.counting import counted, state_bytes
from engine.models.finite import same_content
from engine.models.kinds import Kind, error_of
from engine.models.misfit import require_fit
from engine.models.model_folder import ModelFolder, Settings, plain
from engine.models.sizes import check_sizes
from engine.models.structure import called
from engine.models.t5 import shape
from engine.models.weightfile import Tensors, bad, wrapper_of

NEW = "new T5"
DEFAULTS = {"pad_token_id": 0, "eos_token_id": 1}  # of transformers, for what a config.json does not say


def of_folder(folder: ModelFolder, wrapper: str, special: SpecialTokens, config: RunConfig) -> ModelFacts:
    """The facts about the model of a folder; raises InputError."""
    tensors = {name.removeprefix(wrapper): tensor for name, tensor in folder.tensors.items()}
    _require_fit(folder.path, tensors, folder.settings)
    facts = _facts(str(folder.path), folder.settings, tensors, config)
    return replace(facts, weights_bytes=folder.size, special=special, wrapper=wrapper)


def of_file(path: Path, tensors: Tensors, config: RunConfig) -> ModelFacts:
    """The facts about a file of weights, whose shape the settings of the run say; raises InputError."""
    wrapper = wrapper_of(tensors, shape.NAMES)
    tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    shared, head = tensors.get(shape.SHARED), tensors.get(shape.HEAD)
    if shared is None or len(shared.shape) != 2 or not shape.NAMES & tensors.keys() - {shape.SHARED}:
        raise bad(path, "not_t5")
    settings = settings_of(config) | {"vocab_size": shared.shape[0]}
    if shape.GATE in tensors:
        settings["feed_forward_proj"] = shape.GATED
    tied = head is None or head.storage == shared.storage or same_content(path, head, shared)
    settings["tie_word_embeddings"] = tied
    _require_fit(path, tensors, settings)
    facts = _facts(str(path), settings, tensors, config)
    return replace(facts, weights_bytes=path.stat().st_size, wrapper=wrapper)


def of_new(config: RunConfig) -> ModelFacts:
    """The facts about a new T5, whose embeddings have no rows yet; raises InputError."""
    settings = settings_of(config)
    facts = _facts(NEW, settings, shape.tensors_of(settings), config)
    frozen = "embeddings" in names_in(config.freeze)
    row = [state_bytes(config.optimizer, (rows, config.d_model)) for rows in (1, 2)]
    return replace(facts, per_row=Sizes(config.d_model, *((0, 0) if frozen else (config.d_model, row[1] - row[0]))))


def settings_of(config: RunConfig) -> dict[str, Any]:
    """The config.json of a T5 with the settings of a run; its special tokens are the tokenizer's."""
    names = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
    found = {name: getattr(config, name) for name in names}
    check_sizes(Path("--num_layers …"), found)
    return {"model_type": "t5", "vocab_size": 0, "tie_word_embeddings": True, **found}


def _require_fit(path: Path, tensors: Tensors, settings: Settings) -> None:
    """Raises InputError if names or shapes are not those of a T5 of that configuration."""
    if unsaid := ", ".join(name for name in shape.SIZES if name not in settings):
        raise bad(path, "config_lacks", names=unsaid)
    with reading_untrusted("model_bad", path):
        wanted = shape.tensors_of(settings)
    same = (shape.SHARED, *shape.EMBEDDED, *([] if shape.HEAD in wanted else [shape.HEAD]))
    shapes, found = ({name: tensor.shape for name, tensor in some.items()} for some in (wanted, tensors))
    require_fit(path, shapes, [same], found, {} if path.is_dir() else shape.settings_of(tensors))


def _facts(name: str, settings: Settings, tensors: Tensors, config: RunConfig) -> ModelFacts:
    same = (shape.SHARED, *shape.EMBEDDED, *([shape.HEAD] if shape.tied(settings) else []))  # names of the embeddings
    first = next((name for name in same if name in tensors), "")
    own = {name: tensor for name, tensor in tensors.items() if name == first or name not in same}
    once = {tensor.storage: name for name, tensor in reversed(own.items())}
    return ModelFacts(
        name=name,
        family=str(settings["model_type"]),
        rows=tensors[first].shape[0] if first and tensors[first].shape else 0,
        sizes=counted({name: own[name] for name in once.values()}, shape.part_of, shape.is_linear, config),
        weights_bytes=0,
        settings=plain(settings),
    )


def require_by_names(folder: ModelFolder, relatives: tuple[str, ...]) -> None:
    """Raises InputError if the names of its weights are a T5's, and its config.json names none of `relatives`."""
    if has_all_names(folder) and folder.settings.get("model_type") not in relatives:
        name = called(folder.settings) or "-"
        kind = Kind.of("t5_by_names", name=name)
        raise error_of(folder.path, kind, model_type="t5")


def require_names(folder: ModelFolder) -> None:
    """Raises InputError if not one of the names of the weights is a T5's."""
    if _names(folder) & shape.NAMES:
        return
    name = called(folder.settings)
    kind = Kind.of("t5_by_config", name=name)
    raise error_of(folder.path, kind)


def has_all_names(folder: ModelFolder) -> bool:
    """Whether a model has all the tensors that every T5 has."""
    return _names(folder) >= shape.NAMES


def _names(folder: ModelFolder) -> set[str]:
    """The names without the prefix that a program wrapping a T5 added to them."""
    wrapper = wrapper_of(folder.tensors, shape.NAMES)
    return {name.removeprefix(wrapper) for name in folder.tensors}
