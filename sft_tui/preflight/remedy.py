"""Commands that mend what was found, worked out from the finding and the settings; each can be run as it stands."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.rundir import free_bytes
from sft_tui.preflight import missing
from sft_tui.preflight.finding import Finding

PAIRS = (("question", "answer"), ("instruction", "output"), ("query", "response"), ("input", "output"), ("问", "答"))
SHAPE = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
DEMO = {"train_file": "data/demo_train.parquet", "validation_file": "data/demo_valid.parquet"}
SET_JSON = (
    "import json,sys; path,name,value=sys.argv[1:]; whole=json.load(open(path)); whole[name]=int(value); "
    "json.dump(whole,open(path,'w'),indent=1)"
)


@dataclass(frozen=True)
class Run:
    """The run that is looked at; `command` words it with another verb and other settings."""

    config: RunConfig
    command: Callable[..., str]
    findings: list[Finding]
    pad: int | None = None  # the tokenizer's pad token

    def check(self, **changes: object) -> str:
        """The check of this run with other settings."""
        return self.command("check", **changes)

    def subjects(self, *codes: str) -> set[str]:
        """What findings with these codes are about."""
        return {finding.subject for finding in self.findings if finding.code in codes}

    @property
    def broken(self) -> set[str]:
        """What is in error."""
        return {finding.subject for finding in self.findings if finding.level == "error"}


Remedy = Callable[[Finding, Run], str]


def remedied(run: Run, only: set[str] | None = None) -> Iterator[Finding]:
    """The findings, those that are grave and have no command with one, where one is known."""
    for finding in run.findings:
        known = REMEDIES.get(finding.code)
        wanted = finding.level != "ok" and not finding.command and (only is None or finding.code in only)
        yield replace(finding, command=known(finding, run)) if known and wanted else finding


def _path(finding: Finding) -> str:
    return shlex.quote(str(finding.args["path"]))


# --- data


def _look(finding: Finding, _run: Run) -> str:
    return f"ls -ld {_path(finding)}"


def _preview(finding: Finding, _run: Run) -> str:
    return f"sft-tui data import {_path(finding)} --preview"


def _columns(finding: Finding, run: Run) -> str:
    """The columns by their names where all files have them, else the file turned into the usual ones."""
    names = str(finding.args["columns"]).split(", ")
    pair = next((pair for pair in PAIRS if set(pair) <= set(names)), names if len(names) == 2 else None)
    if pair is None:
        return _preview(finding, run)
    columns = {"prompt_column": pair[0], "response_column": pair[1]}
    looked_at = {finding.subject for finding in run.findings} & DEMO.keys()
    if looked_at == run.subjects("column_missing"):
        return run.check(**columns)
    given = "".join(f" --{name} {shlex.quote(column)}" for name, column in columns.items())
    return f"sft-tui data import {_path(finding)} --train {_path(finding)} --valid '' --overwrite{given}"


def _rows(finding: Finding, run: Run) -> str:
    """Rows in the place of those that cannot be used: held out, brought in from another file, or the demo's."""
    config = run.config
    if finding.subject == "validation_file" and "train_file" not in run.broken:
        return missing.split_command(config)
    source = missing.source_of_rows(config)
    if source is not None:
        return f"{missing.import_command(source, config)} --overwrite"
    train, valid = DEMO.values()
    return f"sft-tui data demo --train {train} --valid {valid} && {run.check(**DEMO)}"


def _fewer_a_step(finding: Finding, run: Run) -> str:
    rows, accumulated = int(finding.args["rows"]), run.config.gradient_accumulation_steps
    of_one = int(finding.args["batch"]) // accumulated
    if rows >= of_one:
        return run.check(gradient_accumulation_steps=max(1, rows // of_one))
    return run.check(batch_size_per_gpu=1, gradient_accumulation_steps=1)


def _longer(_finding: Finding, run: Run) -> str:
    cut = [finding for finding in run.findings if finding.code == "rows_truncated"]
    return run.check(max_seq_len=max(int(finding.args["longest"]) for finding in cut))


# --- model and tokenizer


def _another_model(_finding: Finding, run: Run) -> str:
    return missing.advice("pretrained_model", run.config, run.subjects("file_missing"), run.check)[1]


def _shape(finding: Finding, run: Run) -> str:
    """The shape that the weights have, where the settings say another."""
    shape = {name: finding.args[name] for name in SHAPE if name in finding.args}
    changes = {name: value for name, value in shape.items() if value != getattr(run.config, name)}
    return run.check(**changes) if changes else _another_model(finding, run)


def _another_tokenizer(_finding: Finding, run: Run) -> str:
    """The one in the model's folder, else a new one, and a new model where there is one that it does not fit."""
    config = run.config
    own = Path(config.pretrained_model or "nowhere")
    if any((own / name).is_file() for name in TOKENIZER_FILES) and own.resolve() != Path(config.tokenizer).resolve():
        return run.check(tokenizer=config.pretrained_model)
    new = f"{config.tokenizer.rstrip('/')}_new"
    files = " ".join(dict.fromkeys(map(shlex.quote, (config.train_file, config.validation_file))))
    train = f"sft-tui data tokenizer {files} --output {shlex.quote(new)}"
    if not config.pretrained_model:
        return f"{train} && {run.check(tokenizer=new)}"
    renewed = replace(config, tokenizer=new)
    return f"{train} && {missing.new_model(renewed, lambda **more: run.check(tokenizer=new, **more))}"


def _token(finding: Finding, run: Run) -> str:
    name = str(finding.args.get("token", "decoder_start"))
    if run.pad is None:
        return ""
    path = shlex.quote(str(Path(str(finding.args["model"])) / "config.json"))
    return f"{shlex.quote(sys.executable)} -P -c {shlex.quote(SET_JSON)} {path} {name}_token_id {run.pad}"


def _fetch(finding: Finding, _run: Run) -> str:
    return f"git -C {shlex.quote(str(Path(str(finding.args['path'])).parent))} lfs pull"


def _freeze_known(finding: Finding, run: Run) -> str:
    parts = [part.strip() for part in run.config.freeze.split(",")]
    return run.check(freeze=",".join(part for part in parts if part and part != finding.args["name"]))


def _freeze_less(_finding: Finding, run: Run) -> str:
    return run.check(freeze=missing.DEFAULTS.freeze)


# --- folders and machine


def _elsewhere(finding: Finding, run: Run) -> str:
    """The same folder below the home folder, where that is on another file system or the only one that can be used."""
    path, home = Path(str(finding.args["path"])), Path.home()
    other = home / "sft-tui" / path.name
    if not os.access(home, os.W_OK) or other == path:
        return ""
    if finding.code == "space_short":
        there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
        if there.stat().st_dev == home.stat().st_dev or free_bytes(home) <= free_bytes(there):
            return ""
    setting = str(finding.args["setting"])
    if setting == "logs":
        return f"{run.check()} --logs {shlex.quote(str(other))}"
    return run.check(**{setting: str(other)})


REMEDIES: dict[str, Remedy] = {
    "file_unreadable": _look,
    "column_missing": _columns,
    "column_not_text": _preview,
    **dict.fromkeys(("parquet_bad", "rows_none", "rows_all_empty"), _rows),
    "probe_died": lambda finding, run: (_another_model if finding.subject == "pretrained_model" else _rows)(
        finding, run
    ),
    "rows_few": _fewer_a_step,
    "rows_truncated": _longer,
    **dict.fromkeys(("model_bad", "model_pickle", "model_hash", "model_checksum"), _another_model),
    "model_keys": _shape,
    "model_lfs": _fetch,
    **dict.fromkeys(
        ("tokenizer_bad", "tokenizer_token_missing", "vocabulary_mismatch", "special_token_mismatch"),
        _another_tokenizer,
    ),
    **dict.fromkeys(("special_token_bad", "decoder_start_missing"), _token),
    "freeze_unknown": _freeze_known,
    "nothing_trainable": _freeze_less,
    "precision_fallback": lambda _finding, run: run.check(mixed_precision="auto"),
    **dict.fromkeys(("space_short", "folder_unwritable"), _elsewhere),
    "busy": lambda finding, _run: f"sft-tui attach {shlex.quote(str(finding.args.get('run', '')))}",
    "processes_over_cores": lambda finding, run: run.check(num_processes=finding.args["cores"]),
    "gpu_unreadable": lambda _finding, _run: "nvidia-smi",
    "shm_small": lambda _finding, _run: "mount -o remount,size=1g /dev/shm",
}
