"""Actions that fix a finding, derived from the finding and the settings; each can be carried out as it is."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from engine.contract.config import RunConfig, override
from engine.contract.durable import free_bytes
from engine.contract.inputs import has_tokenizer, model_folder, tokenizer_folder
from sft_tui.preflight import missing
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import DEFAULTS, Action, Command, Open, Resume, Set, Start, System, as_path
from sft_tui.starting import options

SHAPE = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
SET_JSON = (
    "import json,os,sys; path,name,value=sys.argv[1:]; "
    "whole=json.load(open(path)) if os.path.exists(path) else {}; whole[name]=json.loads(value); "
    "json.dump(whole,open(path,'w'),indent=1)"
)

DROP_JSON = (
    "import json,sys; path,name=sys.argv[1:]; whole=json.load(open(path)); whole.pop(name); "
    "json.dump(whole,open(path,'w'),indent=1)"
)


@dataclass(frozen=True)
class CheckedRun:
    """The checked run; `check` makes the action that checks it again with other settings."""

    config: RunConfig
    check: missing.Check
    findings: list[Finding]
    pad: int | None = None  # the tokenizer's pad token
    places: int = 0  # most tokens per row in this model; 0: any number

    def subjects(self, *codes: str) -> set[str]:
        """The subjects of findings with these codes."""
        return {finding.subject for finding in self.findings if finding.code in codes}

    @property
    def broken(self) -> set[str]:
        """The subjects with errors."""
        return {finding.subject for finding in self.findings if finding.level == "error"}


Actions = tuple[Action, ...]
Remedy = Callable[[Finding, CheckedRun], Actions]


def with_remedies(run: CheckedRun, only: set[str] | None = None) -> Iterator[Finding]:
    """The findings, where those that need a remedy and lack one get it if one is known."""
    for finding in run.findings:
        known = REMEDIES.get(finding.code)
        wanted = finding.level != "ok" and not finding.actions and (only is None or finding.code in only)
        fixed = replace(finding, actions=known(finding, run)) if known and wanted else finding
        others = OTHERS.get(finding.code) if fixed.actions else None
        yield replace(fixed, others=tuple(others(finding, run))) if others else fixed


def _path(finding: Finding) -> str:
    return as_path(str(finding.args["path"]))


# --- data


def _look(finding: Finding, _run: CheckedRun) -> Actions:
    return (System(("ls", "-ld", _path(finding))),)


def _preview(finding: Finding, _run: CheckedRun, **columns: str) -> Actions:
    return (Command(("data", "import", _path(finding), "--preview", *options(columns))),)


def _columns(finding: Finding, run: CheckedRun) -> Actions:
    """The settings for the columns if all files have them, else an import into the default columns."""
    if not finding.args.get("importable"):
        names = str(finding.args["columns"]).split(", ")
        guess = dict(zip(missing.USUAL_COLUMNS, names, strict=False)) if len(names) == 2 else {}
        return _preview(finding, run, **guess)  # for a person to judge
    columns = {name: str(finding.args.get(name, "")) for name in missing.USUAL_COLUMNS}
    looked_at = {finding.subject for finding in run.findings} & set(missing.DATA_FILES)
    if all(columns.values()) and looked_at == run.subjects("column_missing"):
        return (run.check(**columns),)
    plain = override(run.config, missing.USUAL_COLUMNS)[0]
    if looked_at == {finding.subject}:
        return missing.import_of(Path(str(finding.args["path"])), plain, run.check)
    if run.subjects("column_missing") == looked_at:
        return missing.rewritten(missing.DATA_FILES, plain, run.check)
    return missing.rewritten([finding.subject], plain, run.check)


def _import_it(finding: Finding, run: CheckedRun) -> Actions:
    """An import of the file itself, whatever other files exist."""
    return missing.import_of(Path(str(finding.args["path"])), run.config, run.check)


def _unreadable(finding: Finding, run: CheckedRun) -> Actions:
    """For an unreadable path: an import if it is a folder, which may hold rows, else a look at it."""
    return _import_it(finding, run) if Path(str(finding.args["path"])).is_dir() else _look(finding, run)


def _split(_finding: Finding, run: CheckedRun) -> Actions:
    return missing.split_again(run.config, run.check)


def _without_repetitions(finding: Finding, run: CheckedRun) -> Actions:
    """The file without repetitions, or both files if that renames the columns."""
    both = {finding.subject for finding in run.findings}.issuperset(missing.DATA_FILES)
    again = missing.DATA_FILES if both and missing.named_columns(run.config) else (finding.subject,)
    return missing.rewritten(again, run.config, run.check)


def _rows(finding: Finding, run: CheckedRun) -> Actions:
    """Other rows in place of unusable ones: held out, or from another file; else a preview of them."""
    if finding.subject == "validation_file" and "train_file" not in run.broken:
        return missing.split_again(run.config, run.check)
    source = missing.source_of_rows(run.config)
    return missing.import_of(source, run.config, run.check) if source else _preview(finding, run)


def _another_store(_finding: Finding, run: CheckedRun) -> Actions:
    return (run.check(token_store=f"{run.config.token_store.rstrip('/')}_new"),)


def _fewer_a_step(finding: Finding, run: CheckedRun) -> Actions:
    rows, accumulated = int(finding.args["rows"]), run.config.gradient_accumulation_steps
    of_one = int(finding.args["batch"]) // accumulated
    if rows >= of_one:
        return (run.check(gradient_accumulation_steps=max(1, rows // of_one)),)
    return (run.check(batch_size_per_gpu=1, gradient_accumulation_steps=1),)


def _longer(_finding: Finding, run: CheckedRun) -> Actions:
    """Limits as long as the longest row or the model's positions; nothing if they are already."""
    longest = max(int(finding.args["longest"]) for finding in run.findings if finding.code == "rows_truncated")
    wanted = min(longest, run.places or longest)
    return (run.check(max_seq_len=wanted),) if wanted > run.config.max_seq_len else ()


# --- model and tokenizer


def _another_model(_finding: Finding, run: CheckedRun) -> Actions:
    return missing.advice("pretrained_model", run.config, run.subjects("file_missing"), run.check)[1]


def _what_it_is(finding: Finding, run: CheckedRun) -> Actions:
    """The path to use instead, or the correct configuration, else another model."""
    file = Path(str(finding.args["path"])) / "config.json"
    if named := finding.args.get("model_type"):
        return _set(file, "model_type", named)
    if key := finding.args.get("drop"):
        return (System((sys.executable, "-P", "-c", DROP_JSON, str(file), str(key))),)
    instead = str(finding.args.get("instead", ""))
    return (run.check(pretrained_model=instead),) if instead else _another_model(finding, run)


def _generation(finding: Finding, _run: CheckedRun) -> Actions:
    """The file without the wrong setting, or moved out of the way if more than one is wrong."""
    path, key = str(finding.args["path"]), str(finding.args["key"])
    if key:
        return (System((sys.executable, "-P", "-c", DROP_JSON, path, key)),)
    return (System(("mv", path, f"{path}.bad")),)


def _shape(finding: Finding, run: CheckedRun) -> Actions:
    """The shape of the weights, if the settings say another."""
    shape = {name: finding.args[name] for name in SHAPE if name in finding.args}
    changes = {name: value for name, value in shape.items() if value != getattr(run.config, name)}
    return (run.check(**changes),) if changes else _another_model(finding, run)


def _another_tokenizer(_finding: Finding, run: CheckedRun) -> Actions:
    """The tokenizer in the model's folder, else a new one, with a new model if the existing one does not fit it."""
    config = run.config
    own, named = model_folder(config), tokenizer_folder(config)
    if has_tokenizer(own) and Path(own).resolve() != Path(named).resolve():
        return (run.check(tokenizer=""),)
    new = f"{(named or DEFAULTS.tokenizer).rstrip('/')}_new"
    train = missing.new_tokenizer(config, new)
    if not config.pretrained_model:
        return train, run.check(tokenizer=new)
    renewed = replace(config, tokenizer=new)
    return train, *missing.new_model(renewed, lambda **more: run.check(tokenizer=new, **more))


def _token(finding: Finding, run: CheckedRun) -> Actions:
    name = str(finding.args.get("token", "decoder_start"))
    if run.pad is None:
        return ()
    return _set(Path(str(finding.args["model"])) / "config.json", f"{name}_token_id", run.pad)


def _set(path: Path, name: str, value: object) -> Actions:
    """The action that sets a value in a JSON file."""
    text = json.dumps(value, ensure_ascii=False)
    return (System((sys.executable, "-P", "-c", SET_JSON, str(path), name, text)),)


def _special_token(finding: Finding, run: CheckedRun) -> Actions:
    """One setting if that is enough: the model's own tokenizer, or else the name of a token that the tokenizer has."""
    own, named = model_folder(run.config), tokenizer_folder(run.config)
    if has_tokenizer(own) and Path(own).resolve() != Path(named).resolve():
        return (run.check(tokenizer=""),)
    if likely := finding.args.get("likely"):
        return _set(Path(named) / "tokenizer_config.json", f"{finding.args['token']}_token", likely)
    if finding.code == "special_token_mismatch" and Path(run.config.pretrained_model).is_dir():
        number = int(finding.args["tokenizer_id"])
        return _set(Path(run.config.pretrained_model) / "config.json", f"{finding.args['token']}_token_id", number)
    return _another_tokenizer(finding, run)


def _fetch(finding: Finding, _run: CheckedRun) -> Actions:
    return (System(("git", "-C", str(Path(str(finding.args["path"])).parent), "lfs", "pull")),)


def _freeze_known(finding: Finding, run: CheckedRun) -> Actions:
    parts = [part.strip() for part in run.config.freeze.split(",")]
    return (run.check(freeze=",".join(part for part in parts if part and part != finding.args["name"])),)


def _freeze_less(_finding: Finding, run: CheckedRun) -> Actions:
    return (run.check(freeze=DEFAULTS.freeze),)


# --- folders and machine


def _elsewhere(finding: Finding, run: CheckedRun) -> Actions:
    """The same folder below the home folder, if that is on another file system or the only usable one."""
    path, home = Path(str(finding.args["path"])), Path.home()
    other = home / "sft-tui" / path.name
    if not os.access(home, os.W_OK) or other == path:
        return ()
    if finding.code == "space_short":
        there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
        if there.stat().st_dev == home.stat().st_dev or free_bytes(home) <= free_bytes(there):
            return ()
    setting = str(finding.args["setting"])
    if setting == "logs":
        look = run.check()
        return (replace(look, logs=str(other)),) if isinstance(look, Set) else ()
    return (run.check(**{setting: str(other)}),)


# --- further ways


def _instead(finding: Finding, run: CheckedRun) -> Iterator[Actions]:
    gone = run.subjects("file_missing", "not_parquet")
    return missing.other_ways(finding.subject, run.config, gone, run.check)


def _start_over(finding: Finding, run: CheckedRun) -> Iterator[Actions]:
    """Another folder; for an interrupted run also the same one, with its old contents moved aside."""
    look = run.check()
    if isinstance(look, Set) and finding.code == "unfinished_run":
        yield (Start(look.preset, look.values, fresh=True),)
    folder = run.config.output_dir.rstrip("/")
    yield (run.check(output_dir=next(f"{folder}_{n}" for n in count(2) if not os.path.lexists(f"{folder}_{n}"))),)


OTHERS: dict[str, Callable[[Finding, CheckedRun], Iterator[Actions]]] = {
    **dict.fromkeys(("file_missing", "model_bad", "model_kind", "parquet_bad", "rows_none"), _instead),
    **dict.fromkeys(("unfinished_run", "busy"), _start_over),
}
OF_SUBJECTS: dict[str, Remedy] = {"pretrained_model": _another_model, "token_store": _another_store}
REMEDIES: dict[str, Remedy] = {
    "file_unreadable": _unreadable,
    "not_parquet": _import_it,
    "column_missing": _columns,
    "rows_duplicate": _without_repetitions,
    **dict.fromkeys(("rows_overlap", "script_differs"), _split),
    "column_not_text": _preview,
    **dict.fromkeys(("parquet_bad", "source_foreign", "rows_none", "rows_all_empty"), _rows),
    "probe_crash": lambda finding, run: OF_SUBJECTS.get(finding.subject, _rows)(finding, run),
    "token_store_bad": _another_store,
    "rows_few": _fewer_a_step,
    "rows_truncated": _longer,
    **dict.fromkeys(
        ("model_bad", "model_pickle", "model_hash", "model_checksum", "weights_not_numbers"), _another_model
    ),
    "model_keys": _shape,
    "model_kind": _what_it_is,
    "generation_bad": _generation,
    "positions_short": lambda finding, run: (run.check(max_seq_len=finding.args["positions"]),),
    "replies_long": lambda finding, run: (run.check(max_new_tokens=finding.args["positions"]),),
    "model_lfs": _fetch,
    **dict.fromkeys(
        ("tokenizer_bad", "tokenizer_died", "tokenizer_differs", "tokenizer_unnamed", "vocabulary_mismatch"),
        _another_tokenizer,
    ),
    **dict.fromkeys(("tokenizer_token_missing", "special_token_mismatch"), _special_token),
    **dict.fromkeys(("special_token_bad", "decoder_start_missing"), _token),
    "freeze_unknown": _freeze_known,
    "nothing_trainable": _freeze_less,
    "precision_fallback": lambda _finding, run: (run.check(mixed_precision="auto"),),
    **dict.fromkeys(("space_short", "folder_unwritable"), _elsewhere),
    "busy": lambda finding, _run: (Open(str(finding.args.get("run", ""))),),
    "unfinished_run": lambda finding, _run: (Resume(str(finding.args.get("run", ""))),),
    "processes_over_cores": lambda finding, run: (run.check(num_processes=finding.args["cores"]),),
    "gpu_unreadable": lambda _finding, _run: (System(("nvidia-smi",)),),
    "shm_small": lambda _finding, _run: (System(("mount", "-o", "remount,size=1g", "/dev/shm")),),
}
