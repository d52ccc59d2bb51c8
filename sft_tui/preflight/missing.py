"""What to do about files that are not there: actions that can be taken, whatever else there is or is not."""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.inputs import FILES, has_tokenizer, model_folder, tokenizer_folder
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.rundir import OutputDir
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import DEFAULTS, Action, Command, Import, Start, as_path, command_of, targets

Check = Callable[..., Action]  # with other settings
Advice = tuple[tuple[str, str], tuple[Action, ...]]  # words in both languages, and what they stand for
ROWS = ("*.jsonl", "*.json", "*.csv", "*.tsv", "*.parquet", "data/*.jsonl", "data/*.json", "data/*.csv", "data/*.tsv")
SNIFFED = 64 << 10  # bytes
SMALL = {
    "d_model": 192, "d_kv": 48, "d_ff": 768, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "bleu_rows": 64,
}  # fmt: skip


def mended(findings: list[Finding], config: RunConfig, check: Check) -> Iterator[Finding]:
    """The findings, those on missing files with what to do about them."""
    gone = {finding.subject for finding in findings if finding.code == "file_missing"}
    for finding in findings:
        if finding.code != "file_missing":
            yield finding
            continue
        words, actions = advice(finding.subject, config, gone, check)
        shown = dict(zip(("advice", "advice_zh"), words, strict=True))
        yield Finding("error", "file_missing", finding.subject, {**finding.args, **shown}, actions)


def advice(subject: str, config: RunConfig, gone: set[str], check: Check) -> Advice:
    """What to do about the missing file of a setting."""
    if subject == "validation_file":
        return _validation(config, gone)
    if subject == "tokenizer":
        return _tokenizer(config, check)
    if subject == "pretrained_model":
        return _model(config, gone, check)
    if subject == "test_file":
        return _test(config, check)
    return _rows(config)


def split_again(config: RunConfig) -> Import:
    """Splits the training file again into both files, without repetitions."""
    return Import([config.train_file], config.train_file, config.validation_file, overwrite=True)


def source_of_rows(config: RunConfig) -> Path | None:
    """A file here that may hold rows of one's own."""
    own = {Path(path).absolute() for path in (config.train_file, config.validation_file)}
    found = (path for pattern in ROWS for path in sorted(Path().glob(pattern)))
    return next((path for path in found if path.absolute() not in own and _looks_like_rows(path)), None)


def _looks_like_rows(path: Path) -> bool:
    """Whether a file may hold rows; of the JSON files in a folder many are settings of something."""
    if path.suffix != ".json":
        return True
    try:
        with path.open("rb") as file:
            head = file.read(SNIFFED).split(b"\n")
    except OSError:
        return False
    if b"".join(head).lstrip(b"\xef\xbb\xbf \t\r").startswith(b"["):
        return True
    with contextlib.suppress(ValueError):  # JSON Lines by another name: a whole object on the first line, and more
        return len(head) > 1 and isinstance(json.loads(head[0]), dict) and head[1].startswith(b"{")
    return False


def _rows(config: RunConfig) -> Advice:
    both = targets(train=config.train_file, valid=config.validation_file)
    source = source_of_rows(config)
    if source is not None:
        own_rows = Import([str(source)], config.train_file, config.validation_file)
        return ("Import the rows: `{command}`", "导入数据：`{command}`"), (own_rows,)
    own = f"`{shlex.join(['sft-tui', 'data', 'import', 'FILE', *both])}`".replace("{", "{{").replace("}", "}}")
    words = (
        f"Import your own rows with {own}, or try a small corpus: `{{command}}`",
        f"用 {own} 导入自己的数据，或先用小语料试一试：`{{command}}`",
    )
    return words, (Command(("data", "demo", *both)),)


def _validation(config: RunConfig, gone: set[str]) -> Advice:
    if "train_file" in gone:
        return ("The same command writes it.", "同一命令会写出它。"), ()
    words = ("Hold out some of the training rows: `{command}`", "从训练数据中划出一部分：`{command}`")
    return words, (split_again(config),)


def _tokenizer(config: RunConfig, check: Check) -> Advice:
    if config.tokenizer and has_tokenizer(model_folder(config)):
        words = ("The model's folder has its own: `{command}`", "模型目录中有配套的分词器：`{command}`")
        return words, (check(tokenizer=""),)
    words = (
        "Put there the one that belongs to the model. For a new model, train one on the rows: `{command}`",
        "请放入与模型配套的分词器。若要新建模型，用数据训练一个：`{command}`",
    )
    return words, (new_tokenizer(config, config.tokenizer or DEFAULTS.tokenizer),)


def new_tokenizer(config: RunConfig, output: str) -> Command:
    """Trains a tokenizer on the rows, for a new model."""
    files = map(as_path, dict.fromkeys((config.train_file, config.validation_file)))
    return Command(("data", "tokenizer", *files, *targets(output=output)))


def _model(config: RunConfig, gone: set[str], check: Check) -> Advice:
    best = OutputDir(Path(preset("pretrain").config.output_dir)).best
    use_it = check(pretrained_model=str(best))
    if best.is_dir() and "tokenizer" not in gone:
        words = (
            "Put it there, or use the one that was pretrained here: `{command}`",
            "请放入模型，或使用在此预训练的模型：`{command}`",
        )
        return words, (use_it,)
    words = (
        "Put it there, or name another with --pretrained_model. Without one, pretrain a small one: `{command}`",
        "请放入模型，或用 --pretrained_model 指定另一个。若没有模型，先预训练一个小模型：`{command}`",
    )
    return words, new_model(config, check)


def _test(config: RunConfig, check: Check) -> Advice:
    if Path(config.validation_file).is_file():
        words = (
            "Name one with --test_file, or evaluate on the validation rows: `{command}`",
            "请用 --test_file 指定一个，或用验证数据评估：`{command}`",
        )
        return words, (check(test_file=config.validation_file),)
    return ("Name one with --test_file PATH.", "请用 --test_file 路径 指定。"), ()


def advised(error: InputError, config: RunConfig, again: Check) -> InputError:
    """The refusal of a run whose file is missing, with what the pre-flight would advise; any other as it is.

    `again` is the refused command with other settings.
    """
    if error.message.code != "file_missing":
        return error
    paths = {**{name: str(getattr(config, name)) for name in FILES}, "tokenizer": tokenizer_folder(config)}
    gone = {name for name, path in paths.items() if path and not Path(path).exists()}
    words, actions = advice(str(error.message.args["setting"]), config, gone, again)
    command = command_of(actions)
    shown = {key: text.format(command=command) for key, text in zip(("advice", "advice_zh"), words, strict=True)}
    return InputError("file_missing_advised", **error.message.args, **shown)


def new_model(config: RunConfig, check: Check) -> tuple[Action, ...]:
    """Pretrains a small model on the rows, and then checks the run that starts from it."""
    base = preset("pretrain").config
    best = OutputDir(Path(base.output_dir)).best
    files = {name: getattr(config, name) for name in ("train_file", "validation_file", "tokenizer")}
    given = {name: path for name, path in files.items() if path != getattr(base, name)}
    return Start("pretrain", {**given, **SMALL}), check(pretrained_model=str(best))
