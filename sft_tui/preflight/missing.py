"""What to do about missing files: actions that work whatever other files exist."""

import contextlib
import itertools
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.facts import DATA_FILES
from engine.contract.files import read_piece
from engine.contract.hub_names import SOURCES, hub_name, looks_like_hub_name
from engine.contract.inputs import FILES, USUAL_COLUMNS, has_tokenizer, model_folder, tokenizer_folder
from engine.contract.messages import InputError
from engine.contract.model_record import record_of
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.texts import Phrase
from sft_tui.options import OF_ROWS, options
from sft_tui.preflight.fix import DEFAULTS, Action, Command, Import, Start, as_path, command_of, targets

Check = Callable[..., Action]  # of the run with other settings
Advice = tuple[Phrase, tuple[Action, ...]]  # words with the placeholder {command}, and the actions they describe
KINDS = ("jsonl", "json", "csv", "tsv", "jsonl.gz", "json.gz", "csv.gz", "jsonl.zst", "arrow")
ROWS = (*(f"*.{kind}" for kind in (*KINDS, "parquet")), *(f"data/*.{kind}" for kind in KINDS))
PARTS = ("train", "valid")
MODELS = ("*/config.json", "model_save/*/config.json", "model_save/*/best/config.json")
WEIGHTS = ("*.safetensors", "*.bin")
MOST_SOURCES = 12  # files or models that are offered
STARTER = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the chat model that is offered if none is here
SNIFFED = 64 << 10  # bytes
SMALL = {
    "d_model": 192, "d_kv": 48, "d_ff": 768, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "bleu_rows": 64,
}  # fmt: skip


def advice(subject: str, config: RunConfig, gone: set[str], check: Check) -> Advice:
    """What to do about the missing file of a setting."""
    if subject == "validation_file":
        return _validation(config, gone, check)
    if subject == "tokenizer":
        return _tokenizer(config, check)
    if subject == "pretrained_model":
        return _model(config, gone, check)
    if subject == "test_file":
        return _test(config, check)
    return _rows(config, check)


def split_again(config: RunConfig, check: Check) -> tuple[Action, ...]:
    """Splits the training rows into two new files, without repetitions, and checks those."""
    source = Path(config.train_file)
    new = free_names(source, PARTS)
    pairs = [(new["train"], config.validation_file), (new["train"], new["valid"])]
    return _import(source, _first_free(pairs), config, check, named_columns(config))


def import_of(source: Path, config: RunConfig, check: Check) -> tuple[Action, ...]:
    """Imports training and validation file from another file, and checks with them if they get other names.

    The files are those of the settings or of the preset if neither exists yet, else new ones: existing files are never
    overwritten.
    """
    new = free_names(source, PARTS)
    usual = (DEFAULTS.train_file, DEFAULTS.validation_file)
    pairs = [(config.train_file, config.validation_file), usual, (new["train"], new["valid"])]
    own = source.absolute() in {Path(str(getattr(config, name))).absolute() for name in DATA_FILES}
    return _import(source, _first_free(pairs), config, check, named_columns(config) if own else {})


def rewritten(settings: Iterable[str], config: RunConfig, check: Check, **how: str) -> tuple[Action, ...]:
    """Writes the usable rows of data files to new files, each row once, and checks those; `how` are options."""
    changes: dict[str, str] = {}
    imports: list[Action] = []
    for setting in settings:
        path = Path(str(getattr(config, setting)))
        changes[setting] = free_names(path, ("clean",))["clean"]
        imports.append(Import([str(path)], changes[setting], "", {**named_columns(config), **how}))
    return *imports, check(**changes, **_usual_columns(config))


def free_names(source: Path, parts: Sequence[str]) -> dict[str, str]:
    """An unused file name for each part of a source's rows, next to the source if its folder can be written."""
    folder = source.parent if os.access(source.parent, os.W_OK) else Path(DEFAULTS.train_file).parent
    stem = source.name.split(".")[0] or "rows"
    for part in parts:
        stem = stem.removesuffix(f"_{part}")
    names: dict[str, Path] = {}
    for number in itertools.count(1):
        names = {part: folder / f"{stem}_{part}{f'_{number}' if number > 1 else ''}.parquet" for part in parts}
        if not any(map(os.path.lexists, names.values())):
            break
    return {part: str(name) for part, name in names.items()}


def named_columns(config: RunConfig) -> dict[str, str]:
    """The columns other than the defaults, by setting."""
    columns = {name: str(getattr(config, name)) for name in USUAL_COLUMNS}
    return {name: column for name, column in columns.items() if column != USUAL_COLUMNS[name]}


def of_rows(config: RunConfig) -> dict[str, Any]:
    """The options with which `data show` makes of a row what the run does."""
    model = config.pretrained_model if Path(config.pretrained_model).is_dir() else DEFAULTS.pretrained_model
    shown = replace(config, pretrained_model=model)
    named = {name: getattr(shown, name) for name in OF_ROWS if getattr(shown, name) != getattr(DEFAULTS, name)}
    own = "pretrained_model" in named and not config.tokenizer
    return {name: value for name, value in {"tokenizer": tokenizer_folder(config), **named}.items() if not own or value}


def _usual_columns(config: RunConfig) -> dict[str, str]:
    """The settings for the columns that an import writes, if they are different now."""
    messages = RunConfig.messages_column
    turns = {} if config.messages_column == messages else {"messages_column": messages}
    return {**(USUAL_COLUMNS if named_columns(config) else {}), **turns}


def _first_free(pairs: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The first pair of different unused names; the last pair is always unused."""
    *some, last = pairs
    free = (pair for pair in some if all(pair) and not any(map(os.path.lexists, pair)) and len(set(pair)) == 2)
    return next(free, last)


def _import(
    source: Path, files: tuple[str, str], config: RunConfig, check: Check, columns: Mapping[str, str]
) -> tuple[Action, ...]:
    made = Import([str(source)], *files, columns)
    changes = {**dict(zip(DATA_FILES, files, strict=True)), **_usual_columns(config)}
    same = all(getattr(config, name) == value for name, value in changes.items())
    return (made,) if same else (made, check(**changes))


def sources_of_rows(config: RunConfig) -> Iterator[Path]:
    """Files here that may hold the user's own rows."""
    own = {Path(path).absolute() for path in (config.train_file, config.validation_file)}
    found = (path for pattern in ROWS for path in sorted(Path().glob(pattern)))
    return (path for path in found if path.absolute() not in own and looks_like_rows(path))


def source_of_rows(config: RunConfig) -> Path | None:
    """The first such file."""
    return next(sources_of_rows(config), None)


def other_ways(subject: str, config: RunConfig, gone: set[str], check: Check) -> Iterator[tuple[Action, ...]]:
    """Alternatives to the missing file of a setting: other files here that may take its place."""
    if subject == "pretrained_model":
        broken = Path(config.pretrained_model).resolve()
        for folder in (found for found in models_here() if Path(found).resolve() != broken):
            own = {"tokenizer": ""} if config.tokenizer and has_tokenizer(folder) else {}
            yield (check(pretrained_model=folder, **own),)
        if not brings_its_own(config):
            yield new_model(config, check)
    if subject == "train_file" or (subject in DATA_FILES and "train_file" in gone):
        for source in itertools.islice(sources_of_rows(config), MOST_SOURCES):
            yield import_of(source, config, check)
        if not any(os.path.lexists(getattr(config, name)) for name in DATA_FILES):
            yield (Command(("data", "demo", *targets(train=config.train_file, valid=config.validation_file))),)


def brings_its_own(config: RunConfig) -> bool:
    """Whether a run starts from a chat model with its tokenizer, which a new T5 cannot take the place of."""
    return not config.tokenizer and "encoder" not in config.freeze


def models_here() -> list[str]:
    """Folders here that hold a model in transformers' format."""
    found = (path.parent for pattern in MODELS for path in sorted(Path().glob(pattern)))
    weighty = (folder for folder in found if any(itertools.chain.from_iterable(map(folder.glob, WEIGHTS))))
    return [str(folder) for folder in itertools.islice(weighty, MOST_SOURCES)]


def looks_like_rows(path: Path) -> bool:
    """Whether a file may hold rows; many JSON files in a folder are settings of something."""
    try:
        head = read_piece(Path(os.path.realpath(path)), 0, SNIFFED).split(b"\n")
    except OSError:  # also for a folder, a pipe or a device
        return False
    if path.suffix != ".json":
        return True
    if b"".join(head).lstrip(b"\xef\xbb\xbf \t\r").startswith(b"["):
        return True
    # JSON Lines under another name: a whole object on the first line, and more lines
    with contextlib.suppress(ValueError, RecursionError):
        return len(head) > 1 and isinstance(json.loads(head[0]), dict) and head[1].startswith(b"{")
    return False


def _rows(config: RunConfig, check: Check) -> Advice:
    both = targets(train=config.train_file, valid=config.validation_file)
    source = source_of_rows(config)
    if source is not None:
        return Phrase.of("advice.import"), import_of(source, config, check)
    own = shlex.join(["sft-tui", "data", "import", "FILE", *both])
    return Phrase.of("advice.own_rows", own=own), (Command(("data", "demo", *both)),)


def _validation(config: RunConfig, gone: set[str], check: Check) -> Advice:
    if "train_file" in gone:
        return Phrase.of("advice.same_command"), ()
    return Phrase.of("advice.hold_out"), split_again(config, check)


def _tokenizer(config: RunConfig, check: Check) -> Advice:
    if brings_its_own(config) or (not config.tokenizer and looks_like_hub_name(config.pretrained_model)):
        return Phrase.of("advice.with_the_model"), ()
    if config.tokenizer and has_tokenizer(model_folder(config)):
        return Phrase.of("advice.own_tokenizer"), (check(tokenizer=""),)
    return Phrase.of("advice.tokenizer"), (new_tokenizer(config, config.tokenizer or DEFAULTS.tokenizer),)


def new_tokenizer(config: RunConfig, output: str) -> Command:
    """Trains a tokenizer on the rows, for a new model."""
    files = map(as_path, dict.fromkeys((config.train_file, config.validation_file)))
    return Command(("data", "tokenizer", *files, *targets(output=output)))


def _model(config: RunConfig, gone: set[str], check: Check) -> Advice:
    if looks_like_hub_name(config.pretrained_model):
        return Phrase.of("advice.model_get"), downloaded(config.pretrained_model, check)
    if brings_its_own(config):
        return Phrase.of("advice.model_starter"), downloaded(STARTER, check)
    best = OutputDir(Path(preset("pretrain").config.output_dir)).best
    use_it = check(pretrained_model=str(best))
    if best.is_dir() and "tokenizer" not in gone:
        return Phrase.of("advice.model_here"), (use_it,)
    return Phrase.of("advice.model"), new_model(config, check)


def downloaded(name: str, check: Check) -> tuple[Action, ...]:
    """Downloads a model from a hub, unless that was done, then checks the run that starts from it."""
    named = hub_name(name)
    folder, use_it = named.folder, check(pretrained_model=str(named.folder))
    if record_of(folder).get("id") == named.id:
        return (use_it,)
    if os.path.lexists(folder):
        folder = folder.with_name(named.id.replace("/", "--"))
        use_it = check(pretrained_model=str(folder))
    more = {"revision": named.revision, "from": named.source if named.source != SOURCES[0] else ""}
    place = (str(folder),) if folder != named.folder else ()
    given = options({option: value for option, value in more.items() if value})
    return Command(("model", "get", named.id, *place, *given)), use_it


def converted(gguf: str, check: Check) -> tuple[Action, ...]:
    """Converts a model in a GGUF file, unless that was done, then checks the run that starts from it."""
    stem = Path(gguf).stem
    for number in itertools.count(1):
        folder = Path("models") / (stem if number == 1 else f"{stem}-{number}")
        use_it = check(pretrained_model=str(folder))
        if record_of(folder).get("file") == Path(gguf).name:
            return (use_it,)
        if not os.path.lexists(folder):
            return Command(("model", "import", as_path(gguf), str(folder))), use_it
    raise AssertionError


def _test(config: RunConfig, check: Check) -> Advice:
    if Path(config.validation_file).is_file():
        return Phrase.of("advice.test_file"), (check(test_file=config.validation_file),)
    return Phrase.of("advice.name_test_file"), ()


def advised(error: InputError, config: RunConfig, again: Check) -> InputError:
    """The refusal of a run whose file is missing, with the check's advice; any other refusal unchanged.

    `again` makes the refused command with other settings.
    """
    if error.message.code != "file_missing":
        return error
    paths = {**{name: str(getattr(config, name)) for name in FILES}, "tokenizer": tokenizer_folder(config)}
    gone = {name for name, path in paths.items() if path and not Path(path).exists()}
    words, actions = advice(str(error.message.args["setting"]), config, gone, again)
    advised = Phrase.of(words.key, **words.args, command=command_of(actions))
    return InputError("file_missing_advised", **error.message.args, advice=advised)


def new_model(config: RunConfig, check: Check) -> tuple[Action, ...]:
    """Pretrains a small model on the rows, then checks the run that starts from it."""
    base = preset("pretrain").config
    best = OutputDir(Path(base.output_dir)).best
    files = {name: getattr(config, name) for name in ("train_file", "validation_file", "tokenizer")}
    given = {name: path for name, path in files.items() if path != getattr(base, name)}
    return Start("pretrain", {**given, **SMALL}), check(pretrained_model=str(best))
