"""What to do about files that are not there: a command that can be run, whatever else there is or is not."""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.presets import preset
from engine.contract.rundir import OutputDir
from sft_tui.preflight.finding import Finding

Command = Callable[..., str]  # of the check with other settings
ROWS = ("*.jsonl", "*.json", "*.csv", "*.tsv", "*.parquet", "data/*.jsonl", "data/*.json", "data/*.csv", "data/*.tsv")
SNIFFED = 64 << 10  # bytes
SMALL = "--d_model 192 --d_kv 48 --d_ff 768 --num_layers 2 --num_decoder_layers 3 --num_heads 4 --bleu_rows 64"
DEFAULTS = preset("sft-small").config  # of the options of `data`, too


def mended(findings: list[Finding], config: RunConfig, check: Command) -> Iterator[Finding]:
    """The findings, those on missing files with what to do about them."""
    gone = {finding.subject for finding in findings if finding.code == "file_missing"}
    for finding in findings:
        if finding.code != "file_missing":
            yield finding
            continue
        words, command = advice(finding.subject, config, gone, check)
        shown = dict(zip(("advice", "advice_zh"), words, strict=True))
        yield Finding("error", "file_missing", finding.subject, {**finding.args, **shown}, command)


def advice(subject: str, config: RunConfig, gone: set[str], check: Command) -> tuple[tuple[str, str], str]:
    """What to do about the missing file of a setting, in both languages, and the command."""
    if subject == "validation_file":
        return _validation(config, gone)
    if subject == "tokenizer":
        return _tokenizer(config)
    if subject == "pretrained_model":
        return _model(config, gone, check)
    return _rows(config)


def split_command(config: RunConfig) -> str:
    """The command that splits the training file anew into both files, without repetitions."""
    train, valid = shlex.quote(config.train_file), shlex.quote(config.validation_file)
    return f"sft-tui data import {train} --train {train} --valid {valid} --overwrite"


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


def import_command(source: Path, config: RunConfig) -> str:
    """The command that makes both data files of another."""
    return f"sft-tui data import {shlex.quote(str(source))}" + _options(
        train=config.train_file, valid=config.validation_file
    )


def _rows(config: RunConfig) -> tuple[tuple[str, str], str]:
    both = _options(train=config.train_file, valid=config.validation_file)
    source = source_of_rows(config)
    if source is not None:
        return ("Bring rows in: `{command}`", "导入数据：`{command}`"), import_command(source, config)
    own = f"`sft-tui data import FILE{both}`".replace("{", "{{").replace("}", "}}")
    words = (
        f"Bring in rows of your own with {own}, or try with a small corpus: `{{command}}`",
        f"用 {own} 导入自己的数据，或先用小语料试一试：`{{command}}`",
    )
    return words, f"sft-tui data demo{both}"


def _validation(config: RunConfig, gone: set[str]) -> tuple[tuple[str, str], str]:
    if "train_file" in gone:
        return ("The same command writes it.", "同一命令会写出它。"), ""
    words = ("Hold out some of the training rows: `{command}`", "从训练数据中划出一部分：`{command}`")
    return words, split_command(config)


def _tokenizer(config: RunConfig) -> tuple[tuple[str, str], str]:
    words = (
        "Put there the one that belongs to the model. For a new model, train one on the rows: `{command}`",
        "请放入与模型配套的分词器。若要新建模型，用数据训练一个：`{command}`",
    )
    files = " ".join(shlex.quote(path) for path in dict.fromkeys((config.train_file, config.validation_file)))
    return words, f"sft-tui data tokenizer {files}{_options(output=config.tokenizer)}"


def _model(config: RunConfig, gone: set[str], check: Command) -> tuple[tuple[str, str], str]:
    best = OutputDir(Path(preset("pretrain").config.output_dir)).best
    use_it = check(pretrained_model=str(best))
    if best.is_dir() and "tokenizer" not in gone:
        words = (
            "Put it there, or use the one that was pretrained here: `{command}`",
            "请放入模型，或使用在此预训练的模型：`{command}`",
        )
        return words, use_it
    words = (
        "Put it there, or name another with --pretrained_model. Without one, pretrain a small one: `{command}`",
        "请放入模型，或用 --pretrained_model 指定另一个。若没有模型，先预训练一个小模型：`{command}`",
    )
    return words, new_model(config, check)


def new_model(config: RunConfig, check: Command) -> str:
    """The commands that pretrain a small model on the rows, and then check the run that starts from it."""
    base = preset("pretrain").config
    best = OutputDir(Path(base.output_dir)).best
    files = {name: getattr(config, name) for name in ("train_file", "validation_file", "tokenizer")}
    given = "".join(f" --{name} {shlex.quote(path)}" for name, path in files.items() if path != getattr(base, name))
    return f"sft-tui run pretrain{given} {SMALL} && {check(pretrained_model=str(best))}"


def _options(**paths: str) -> str:
    """Options of `data` with these paths, those left out that are so anyway."""
    usual = {"train": DEFAULTS.train_file, "valid": DEFAULTS.validation_file, "output": DEFAULTS.tokenizer}
    return "".join(f" --{name} {shlex.quote(path)}" for name, path in paths.items() if path != usual[name])
