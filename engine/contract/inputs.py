"""Whether a run's files exist, and whether its model can be divided; the trainer checks the content of files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.texts import Phrase

FILES = ("train_file", "validation_file", "test_file", "tokenizer", "pretrained_model")  # settings

# Columns of the files that an import writes, and of a run that names no others.
USUAL_COLUMNS = {"prompt_column": RunConfig.prompt_column, "response_column": RunConfig.response_column}
ImportForm = Literal["auto", "pairs", "messages"]  # of the rows that it writes

# Files that mark a tokenizer's folder for transformers; those of SentencePiece have several names.
T5_FAMILIES = ("t5", "mt5", "umt5", "longt5", "switch_transformers")  # their tokenizers are built like T5's
PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.model", "sentencepiece.bpe.model", "spm.model")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer_config.json", *PIECES)


def has_tokenizer(folder: str) -> bool:
    """Whether a folder contains the files of a tokenizer, as many model folders do."""
    return bool(folder) and any((Path(folder) / name).is_file() for name in TOKENIZER_FILES)


def model_folder(config: RunConfig) -> str:
    """The folder of the run's model; empty for a new model."""
    path = config.pretrained_model
    return str(Path(path).parent) if path and Path(path).is_file() else path


def tokenizer_folder(config: RunConfig) -> str:
    """The folder of the run's tokenizer: the one that is set, or else the model's."""
    return config.tokenizer or model_folder(config)


# Names of the two texts of a row, in English and Chinese.
PARTS = {"prompt": "row.prompt", "label": "row.response", "row": "row.whole"}  # their names in the catalogues


def require_positions(path: str, config: RunConfig, longest: Mapping[str, int], positions: Mapping[str, int]) -> None:
    """Raises InputError if a row of `path`, or a requested reply, has more tokens than the model has positions.

    `longest` has the tokens of the longest prompt, label and row before any cut, `positions` the model's limits of
    these. A reply follows its prompt in the same row where rows are limited.
    """
    over = [part for part in PARTS if part in positions and min(longest[part], config.max_seq_len) > positions[part]]
    if over:
        part = Phrase(PARTS[over[0]])
        tokens, places = min(longest[over[0]], config.max_seq_len), min(positions[name] for name in over)
        raise InputError("positions_short", path=path, part=part, longest=tokens, positions=places)
    places = positions.get("label", config.max_new_tokens)
    if "row" in positions:
        places = positions["row"] - min(longest["prompt"], config.max_seq_len)
    if config.max_new_tokens > places:
        raise InputError("replies_long", longest=config.max_new_tokens, positions=places)


def require_files(config: RunConfig, *settings: str) -> None:
    """Raises InputError naming the first of `settings` whose file is missing; empty settings are skipped.

    An empty tokenizer setting means the model's, which a new model lacks.
    """
    for setting in settings:
        path = tokenizer_folder(config) if setting == "tokenizer" else str(getattr(config, setting))
        if setting == "tokenizer" and not path:
            raise InputError("tokenizer_unnamed")
        if path and not Path(path).exists():
            raise InputError("file_missing", what=Phrase(f"subject.{setting}"), path=path, setting=setting)


def require_shardable(config: RunConfig, family: str, processes: int, model: Mapping[str, Any]) -> None:
    """Raises InputError if a model of a family, with these settings, is to be divided among processes and cannot be."""
    if config.shard == "off":
        return
    if family and family != "causal":
        raise InputError("shard_family", kind=Phrase(f"family.{family}"))
    if config.optimizer != "adamw":
        raise InputError("shard_optimizer", optimizer=config.optimizer)
    for name, value in model.items():
        if "layerdrop" in name and isinstance(value, int | float):
            rate = value if config.dropout_rate < 0 else config.dropout_rate  # which sets every rate of a model
            if rate > 0:
                raise InputError("shard_layerdrop", name=name, rate=rate)
    if processes == 1:
        raise InputError("shard_alone")
