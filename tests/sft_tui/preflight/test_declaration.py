"""The commands that go with findings fix them: once run, the finding is gone."""

import gzip
import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.config import override
from engine.contract.presets import preset
from sft_tui import preflight
from sft_tui.options import parse
from sft_tui.preflight import chats, data, disk, machine, model, peak, reader, tokenizing
from sft_tui.preflight import check as checking
from sft_tui.preflight.check import Report, check_file
from sft_tui.preflight.declaration import CHECKS, GROUPS, CheckedRun, Group, with_remedies
from sft_tui.preflight.finding import Finding, words
from sft_tui.preflight.fix import Action, Set
from sft_tui.preflight.request import CheckRequest
from tests.catalogues import MESSAGES, TEXTS
from tests.engine.models.families import saved
from tests.processes import SFT_TUI, run
from tests.sft_tui.preflight.broken_files import BROKEN, Files
from tests.sft_tui.preflight.conftest import Checked, report_on


def of_command(words: list[str], folder: Path) -> Report:
    """The report of a check that was given as a command."""
    assert words[:2] == ["check", "sft-small"]
    given = zip((word.removeprefix("--") for word in words[2::2]), words[3::2], strict=True)
    values = {name: parse(name, value) for name, value in given}
    config, _ = override(preset("sft-small").config, values)
    return report_on(CheckRequest("sft-small", values, config, folder / "logs"))


def carried_out(actions: Sequence[Action], files: Files) -> Report | None:
    """Takes the actions by their commands; the report where a check is one of them."""
    report = None
    for action in actions:
        program, *words = action.argv
        if program != "sft-tui":
            subprocess.run([program, *words], check=True, timeout=60)
        elif words[0] == "check":
            report = of_command(words, files.folder)
        else:
            result = run(*SFT_TUI, *words, folder=files.folder)
            assert result.code == 0, result.err
    return report


@pytest.mark.parametrize(
    "name",
    [
        "validation rows cut in half",
        "no_validation_rows",
        "longer_than_the_limit",
        "state dict: of another width",
        "a part that is not there",
        "everything frozen",
        "no decoder start",
        "model: called a BERT",
        "a pad token beyond the vocabulary",
        "another end token",
        "tokenizer: another than the model's own",
        "model: settings that cannot be saved",
        pytest.param("rows longer than a BART has places for", marks=pytest.mark.slow),
        "fewer_rows_than_a_step",
        "repeated_rows",
    ],
)
def test_the_proposed_command_fixes_the_finding(files: Files, checked: Checked, name: str) -> None:
    (inmate,) = [inmate for inmate in BROKEN if inmate.name == name]
    more: dict[str, Any] = inmate.broken(files) or {}
    if name == "another end token":
        for part in ("tokenizer.json", "tokenizer_config.json"):  # the model comes with its own
            whole = (files.folder / "tokenizer" / part).read_text()
            (files.folder / "pretrained_model" / part).write_text(whole)
        files.change("pretrained_model/config.json", eos_token_id=1)
        files.change("tokenizer/tokenizer_config.json", eos_token="[UNK]")
    before = checked(**more)
    finding = next(finding for finding in before.findings if finding.code == inmate.code)
    after = carried_out(finding.actions, files) or checked(**more)
    assert inmate.code not in {finding.code for finding in after.findings}
    assert after.exit_code == 0, [finding for finding in after.findings if finding.level == "error"]


def test_columns_with_other_names_are_proposed(files: Files, checked: Checked) -> None:
    for name in ("train_file", "validation_file"):
        table = pq.read_table(files.path(name)).rename_columns(["question", "answer"])
        pq.write_table(table.append_column("id", pa.array(range(len(table)))), files.path(name))
    finding = checked().findings[0]
    assert finding.code == "column_missing"
    after = carried_out(finding.actions, files)
    assert after is not None
    assert after.exit_code == 0
    config, _ = override(preset("sft-small").config, files.settings)
    alone = check_file(config).findings[0].command
    assert alone.endswith("--prompt_column question --response_column answer")
    assert run("sh", "-c", f"{shlex.join(SFT_TUI)} {alone.removeprefix('sft-tui ')}", folder=files.folder).code == 0


def test_repeated_rows_are_removed_in_a_new_file(files: Files, checked: Checked) -> None:
    files.write([*files.rows("validation_file"), *files.rows("validation_file")], "validation_file")
    before = {name: files.path(name).read_bytes() for name in ("train_file", "validation_file")}
    (finding,) = [finding for finding in checked().findings if finding.code == "rows_duplicate"]
    after = carried_out(finding.actions, files)
    assert after is not None
    assert "rows_duplicate" not in {finding.code for finding in after.findings}
    assert {name: files.path(name).read_bytes() for name in before} == before
    assert len(pq.read_table(files.folder / "validation_file_clean.parquet")) == 10
    assert not (files.folder / "data").exists()


@pytest.mark.parametrize("code", ["reader_crash", "token_store_bad"])
def test_an_unreadable_token_store_is_left_for_another(files: Files, code: str) -> None:
    request = CheckRequest("sft-small", {}, preset("sft-small").config, files.folder / "logs")
    finding = Finding("error", code, "token_store", {"path": "data/token_store", "why": "SIGBUS"})
    (remedied_finding,) = with_remedies(CheckedRun(request.config, request.changed, [finding]))
    (action,) = remedied_finding.actions
    assert isinstance(action, Set)
    assert dict(action.changes) == {"token_store": "data/token_store_new"}


@pytest.mark.parametrize("name", ["mine.jsonl.gz", "shards"])
def test_a_file_that_is_not_parquet_is_imported_and_never_replaced(
    files: Files, checked: Checked, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is there: rows of another kind next to it, and the validation file that the settings name."""
    monkeypatch.chdir(files.folder)
    rows = files.rows("train_file")
    source = files.folder / name
    place = source / "1.jsonl" if name == "shards" else source
    place.parent.mkdir(exist_ok=True)
    text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    content = gzip.compress(text) if name.endswith("gz") else text
    place.write_bytes(content)
    (files.folder / "other.jsonl").write_text('{"prompt": "x", "response": "y"}\n')
    (finding,) = [f for f in checked(train_file=str(source)).findings if f.subject == "train_file"]
    assert finding.code == ("file_unreadable" if name == "shards" else "not_parquet")
    assert "demo" not in finding.command
    after = carried_out(finding.actions, files)
    assert after is not None
    assert not {"train_file", "validation_file"} & {f.subject for f in after.findings if f.level == "error"}
    assert place.read_bytes() == content
    written = [len(pq.read_table(path)) for path in (files.folder / "data").glob("*.parquet")]
    assert sum(written) == len({tuple(row.values()) for row in rows})


def test_one_file_for_both_is_split_into_two_new_ones(files: Files, checked: Checked) -> None:
    path = files.path("train_file")
    before = path.read_bytes()
    (finding,) = [f for f in checked(validation_file=str(path)).findings if f.code == "rows_overlap"]
    after = carried_out(finding.actions, files)
    assert after is not None
    assert "rows_overlap" not in {f.code for f in after.findings}
    assert path.read_bytes() == before


def test_a_damaged_file_is_not_replaced_by_the_demo(files: Files, checked: Checked) -> None:
    files.path("train_file").write_bytes(files.path("train_file").read_bytes()[:-20])
    (finding,) = [f for f in checked().findings if f.code == "parquet_bad"]
    assert "demo" not in finding.command


@pytest.mark.slow
def test_rows_longer_than_the_models_positions_are_found(files: Files, checked: Checked) -> None:
    saved("BartForConditionalGeneration", files.folder / "bart", max_position_embeddings=12)
    more = {"pretrained_model": str(files.folder / "bart"), "freeze": "", "max_seq_len": 8}
    (finding, *_) = [finding for finding in checked(**more).findings if finding.code == "rows_truncated"]
    assert "--max_seq_len 12" in finding.command
    cut = [finding for finding in checked(**{**more, "max_seq_len": 12}).findings if finding.code == "rows_truncated"]
    assert [finding.command for finding in cut] == [""] * len(cut) != []


def test_every_check_has_words_and_no_words_lack_a_check() -> None:
    assert CHECKS.keys() == {key.split(".")[1] for key in TEXTS["en"] if key.startswith("check.")}


def test_errors_of_the_engine_are_declared_by_their_codes() -> None:
    declared = {check.code for group in GROUPS for check, judge in group.checks if judge is None}
    assert declared <= MESSAGES.keys()


def test_every_group_of_judgements_is_walked() -> None:
    """A group that nobody asks for its findings would be a check that never runs."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(preflight.__path__[0]).glob("*.py"))
    walked = set(re.findall(r"\b([A-Z_]+)\.findings\(", source))
    groups = {
        name
        for module in (checking, chats, data, disk, machine, model, peak, reader, tokenizing)
        for name, value in vars(module).items()
        if isinstance(value, Group) and any(judge for _, judge in value.checks)
    }
    assert groups == walked


def test_rows_checked_alone_have_the_commands_of_their_words() -> None:
    """`data check` has no run: a check of rows whose fix names a command must have it there too."""
    groups = (data.FILES, data.ROWS, data.TOKENS, chats.TALKS)
    checks = [check for group in groups for check, _ in group.checks if "{command}" in words(check.code, "fix", "en")]
    assert {"text_control", "labels_empty"} <= {check.code for check in checks}
    assert [check.code for check in checks if not check.of_rows] == []
