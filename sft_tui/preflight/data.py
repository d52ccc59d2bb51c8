"""Checks of data files, and what fixes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import RunConfig, override
from engine.contract.facts import DATA_FILES, DataFacts, FileFacts, LengthFacts, SomeRows, TokenFacts
from engine.contract.inputs import USUAL_COLUMNS, tokenizer_folder
from engine.contract.leave_out import leave_out_path
from engine.contract.reasons import counted
from engine.contract.texts import Phrase
from sft_tui.options import options
from sft_tui.preflight import missing
from sft_tui.preflight.declaration import Actions, Advice, CheckedRun, Group, Seen
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Command, Import, System, as_path
from sft_tui.preflight.missing import named_columns, of_rows

CUT_SHARE = 0.001  # of the label tokens; above it, cut labels are a warning
UNKNOWN_WARNING, UNKNOWN_ERROR = 0.01, 0.2  # of all tokens
BARS = "\N{NO-BREAK SPACE}▁▂▃▄▅▆▇█"  # no line of a terminal ends within them


@dataclass(frozen=True)
class Rows:
    """A data file that was read, and the run's settings."""

    config: RunConfig
    setting: str
    facts: FileFacts

    @property
    def path(self) -> str:
        """Its path."""
        return str(getattr(self.config, self.setting))

    @property
    def listed(self) -> str:
        """The path of the list of its rows that are left out."""
        return str(leave_out_path(Path(self.path)))

    def some(self, found: SomeRows) -> Iterator[Seen]:
        """What is seen of rows with some property, if there are any."""
        if found.rows:
            yield Seen({"path": self.path, "rows": self.facts.rows, "count": found.rows, "first": found.first})


@dataclass(frozen=True)
class TokenRows(Rows):
    """A data file whose rows were tokenized."""

    tokens: TokenFacts


@dataclass(frozen=True)
class TwoFiles:
    """The training rows of a run and, if they could be read, its validation rows."""

    config: RunConfig
    batch: int  # rows of a step
    train: FileFacts
    valid: FileFacts | None
    overlap: SomeRows


FILES = Group[None]("Files that cannot be read")
ROWS = Group[Rows]("Rows")
TOKENS = Group[TokenRows]("Rows")
BOTH = Group[TwoFiles]("Rows")


def of_files(config: RunConfig, facts: DataFacts) -> Iterator[Finding]:
    """The findings on each data file that could be read."""
    for setting, file in facts.read.items():
        if file.tokens is not None:
            yield from TOKENS.findings(TokenRows(config, setting, file, file.tokens), setting)
        yield from ROWS.findings(Rows(config, setting, file), setting)


def of_both(config: RunConfig, facts: DataFacts, processes: int) -> Iterator[Finding]:
    """The findings on the training rows, and the validation rows if they could be read, as a run uses them."""
    read, batch = facts.read, config.effective_batch(processes)
    if "train_file" in read:
        yield from BOTH.findings(
            TwoFiles(config, batch, read["train_file"], read.get("validation_file"), facts.overlap)
        )


# --- words


def percent(share: float) -> str:
    """A share as text: `3.1 %`."""
    return f"{100 * share:.1f} %" if share == 0 or share >= 0.001 else "< 0.1 %"


def scripts(facts: FileFacts) -> tuple[Phrase, ...]:
    """The scripts of a file with at least one letter in a hundred: `Han 94 %, Latin 6 %`."""
    found = [(script, share) for script, share in facts.scripts.items() if share >= 0.01]
    shown = (Phrase.of("script.share", script=script_name(name), share=f"{100 * share:.0f}") for name, share in found)
    return tuple(shown) or (Phrase.of("script.none"),)


def script_name(script: str) -> Phrase:
    """The displayed name of a script."""
    return Phrase(f"script.{script}", fallback=script)


def parts(file: TokenRows) -> dict[str, Phrase]:
    """What the two parts of a row are called, of which the second is learned."""
    names = ("prompts", "responses") if file.tokens.chat is None else ("contexts", "answers")
    return {"prompts": Phrase(f"parts.{names[0]}"), "responses": Phrase(f"parts.{names[1]}")}


def lengths(facts: LengthFacts) -> Phrase:
    """Lengths as text: a histogram from 0 to the longest, the median and the 95th percentile."""
    counts = facts.histogram.counts
    highest = max(1, *counts)
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // highest)] for count in counts)
    longest, half, most = (f"{count:,}" for count in (facts.longest, facts.median, facts.p95))
    return Phrase.of("lengths.shown", bars=bars, longest=longest, half=half, most=most)


# --- remedies


def _path(finding: Finding) -> Path:
    return Path(str(finding.args["path"]))


def get_it(finding: Finding, run: CheckedRun) -> Advice:
    """Whatever fits: import rows, hold some out, train a tokenizer, pretrain a model."""
    gone = run.subjects("file_missing", "not_parquet")
    return Advice(*missing.advice(finding.subject, run.config, gone, run.check))


def use_another(finding: Finding, run: CheckedRun) -> Iterator[Actions]:
    """Other files here that may take its place."""
    gone = run.subjects("file_missing", "not_parquet")
    return missing.other_ways(finding.subject, run.config, gone, run.check)


def import_it(finding: Finding, run: CheckedRun) -> Actions:
    """Import the file."""
    return missing.import_of(_path(finding), run.config, run.check)


def look_at_it(finding: Finding, run: CheckedRun) -> Actions:
    """Import it if it is a folder, which may hold rows, else look at its permissions."""
    if _path(finding).is_dir():
        return import_it(finding, run)
    return (System(("ls", "-ld", as_path(str(finding.args["path"])))),)


def preview(finding: Finding, _run: CheckedRun, **columns: str) -> Actions:
    """Preview an import of the file."""
    return (Import([str(finding.args["path"])], more=columns, preview=True),)


def name_columns(finding: Finding, run: CheckedRun) -> Actions:
    """Name the columns if all files have them, else import the file into columns of the usual names."""
    turns = str(finding.args.get("messages_column", ""))
    if turns and run.data_files == run.subjects("column_missing"):
        return (run.check(messages_column=turns),)
    if not finding.args.get("importable"):
        names = str(finding.args["columns"]).split(", ")
        guess = dict(zip(USUAL_COLUMNS, names, strict=False)) if len(names) == 2 else {}
        return preview(finding, run, **guess)  # for a person to judge
    columns = {name: str(finding.args.get(name, "")) for name in USUAL_COLUMNS}
    lacking = run.subjects("column_missing")
    if all(columns.values()) and run.data_files == lacking:
        return (run.check(**columns),)
    plain = override(run.config, USUAL_COLUMNS)[0]
    if run.data_files == {finding.subject}:
        return missing.import_of(_path(finding), plain, run.check)
    return missing.rewritten(DATA_FILES if run.data_files == lacking else [finding.subject], plain, run.check)


def other_rows(finding: Finding, run: CheckedRun) -> Actions:
    """Hold rows out of the training file, or import other rows; else preview these."""
    if finding.subject == "validation_file" and "train_file" not in run.broken:
        return missing.split_again(run.config, run.check)
    source = missing.source_of_rows(run.config)
    return missing.import_of(source, run.config, run.check) if source else preview(finding, run)


def show_row(finding: Finding, run: CheckedRun) -> Actions:
    """Look at the first such row as the model sees it."""
    path, row = str(finding.args["path"]), int(finding.args["first"])
    return (Command(("data", "show", as_path(path), *options({"row": row, **of_rows(run.config)}))),)


def without_repetitions(finding: Finding, run: CheckedRun) -> Actions:
    """Write each row once to a new file, and use that."""
    both = run.data_files.issuperset(DATA_FILES)
    again = DATA_FILES if both and named_columns(run.config) else (finding.subject,)
    answers = {"as": "pairs"} if finding.args["form"] == "messages" else {}  # which conversations have in common
    return missing.rewritten(again, run.config, run.check, **answers)


def split_again(_finding: Finding, run: CheckedRun) -> Actions:
    """Split the training rows into two new files."""
    return missing.split_again(run.config, run.check)


def longer_limit(of: Finding, run: CheckedRun) -> Actions:
    """Raise `max_seq_len` to the longest row, or to what the model can take."""
    longest = max(int(finding.args["longest"]) for finding in run.findings if finding.code == of.code)
    wanted = min(longest, run.places or longest)
    return (run.check(max_seq_len=wanted),) if wanted > run.config.max_seq_len else ()


def fewer_a_step(finding: Finding, run: CheckedRun) -> Actions:
    """Accumulate over fewer micro-batches."""
    rows, accumulated = int(finding.args["rows"]), run.config.gradient_accumulation_steps
    of_one = int(finding.args["batch"]) // accumulated
    if rows >= of_one:
        return (run.check(gradient_accumulation_steps=max(1, rows // of_one)),)
    return (run.check(batch_size_per_gpu=1, gradient_accumulation_steps=1),)


def another_store(_finding: Finding, run: CheckedRun) -> Actions:
    """Use another folder for the token store."""
    return (run.check(token_store=f"{run.config.token_store.rstrip('/')}_new"),)


# --- files that cannot be read; the engine says why

FILES.error("file_missing", "A file of the run does not exist.", remedy=get_it, others=use_another)
FILES.error("file_unreadable", "A file is not a regular file, or may not be read.", remedy=look_at_it, of_rows=True)
FILES.error("not_parquet", "A data file is not Parquet.", remedy=import_it, of_rows=True)
FILES.error("source_foreign", "A data file holds something other than rows.", remedy=other_rows)
FILES.error(
    "parquet_bad", "A data file is damaged; page checksums are verified.", remedy=other_rows, others=use_another
)
FILES.error("column_missing", "A column is missing.", remedy=name_columns, of_rows=True)
FILES.error("column_not_text", "A column is not text.", remedy=preview, of_rows=True)
FILES.error("column_not_messages", "A column of messages holds something else.", remedy=import_it, of_rows=True)
FILES.error("rows_none", "A data file has no rows.", remedy=other_rows, others=use_another)
FILES.error("rows_all_empty", "No row has both a prompt and a response.", remedy=other_rows)
FILES.error("rows_all_left_out", "Every row of the training file is left out.", subject="leave_out")
FILES.error("leave_out_bad", "The list of rows that are left out cannot be used.", subject="leave_out")
FILES.error("chats_none", "No conversation can be used.")
FILES.error("turns_elsewhere", "The record of where turns begin does not fit the prompts.")
FILES.error(
    "token_store_bad", "The token store is damaged and cannot be made again.", subject="token_store",
    remedy=another_store,
)  # fmt: skip


# --- rows


@ROWS.check("rows_untokenized", "ok")
def _rows_untokenized(file: Rows) -> Iterator[Seen]:
    """Rows, read without a tokenizer."""
    if file.facts.tokens is None:
        yield Seen({"path": file.path, "rows": file.facts.rows, "scripts": scripts(file.facts)})


@ROWS.check("rows_dropped", "warning", remedy=show_row, of_rows=True)
def _rows_dropped(file: Rows) -> Iterator[Seen]:
    """Rows without a prompt or a response are left out."""
    facts = file.facts
    if facts.dropped:
        counts = {"rows": facts.rows, "dropped": sum(facts.dropped.values()), "first": facts.first_dropped}
        yield Seen({"path": file.path, **counts, "reasons": counted(facts.dropped)})


@ROWS.check("rows_left_out", "ok")
def _rows_left_out(file: Rows) -> Iterator[Seen]:
    """Rows that are listed next to the training file are left out of training."""
    if file.facts.left_out.rows:
        yield Seen({"path": file.path, "count": file.facts.left_out.rows, "file": file.listed})


@ROWS.check("rows_left_out_stale", "warning")
def _rows_left_out_stale(file: Rows) -> Iterator[Seen]:
    """Rows that are listed have changed since, and are trained on."""
    stale = file.facts.left_out.stale
    if stale.rows:
        yield Seen({"path": file.path, "count": stale.rows, "first": stale.first, "file": file.listed})


@ROWS.check("text_control", "warning", remedy=show_row, of_rows=True)
def _text_control(file: Rows) -> Iterator[Seen]:
    """Rows contain control characters."""
    return file.some(file.facts.control)


@ROWS.check("text_replacement", "warning", remedy=show_row, of_rows=True)
def _text_replacement(file: Rows) -> Iterator[Seen]:
    """Rows contain U+FFFD, the mark of text decoded with the wrong encoding."""
    return file.some(file.facts.replacement)


# --- rows as tokens


@TOKENS.check("token_store_again", "warning", subject="token_store")
def _token_store_again(file: TokenRows) -> Iterator[Seen]:
    """The token store was damaged and was made again."""
    damage = file.tokens.store.damage
    if damage is not None:
        yield Seen({"path": damage.path, "why": damage.why})


@TOKENS.check("rows", "ok")
def _rows(file: TokenRows) -> Iterator[Seen]:
    """Rows, their scripts and median lengths."""
    medians = {"prompt": file.tokens.prompt.median, "label": file.tokens.label.median}
    shown = {"rows": file.facts.rows, "scripts": scripts(file.facts), **parts(file)}
    yield Seen({"path": file.path, **shown, **medians})


@TOKENS.check("lengths", "ok")
def _lengths(file: TokenRows) -> Iterator[Seen]:
    """Lengths of prompts and responses."""
    yield Seen({"prompt": lengths(file.tokens.prompt), "label": lengths(file.tokens.label), **parts(file)})


@TOKENS.check("turns_left_out", "ok")
def _turns_left_out(file: TokenRows) -> Iterator[Seen]:
    """The oldest turns of long conversations are left out."""
    tokens = file.tokens
    if tokens.turns_rows:
        turns = {"turns_rows": tokens.turns_rows, "turns_left_out": tokens.turns_left_out}
        limits = {"rows": file.facts.rows, "limit": tokens.limit, "longest": tokens.longest}
        yield Seen({"path": file.path, **turns, **limits})


@TOKENS.check("rows_truncated", "warning", "ok", remedy=longer_limit, of_rows=True)
def _rows_truncated(file: TokenRows) -> Iterator[Seen]:
    """Rows are longer than `max_seq_len`; a warning if a thousandth of the label tokens are cut off."""
    tokens = file.tokens
    if tokens.cut_rows:
        share = tokens.cut_label_tokens / max(1, tokens.label_tokens)
        cut = {"cut_rows": tokens.cut_rows, "cut_tokens": tokens.cut_tokens, "share": percent(share)}
        limits = {"rows": file.facts.rows, "limit": tokens.limit, "longest": tokens.longest}
        yield Seen({"path": file.path, **cut, **limits}, "warning" if share >= CUT_SHARE else "ok")


@TOKENS.check("labels_empty", "warning", remedy=show_row, of_rows=True)
def _labels_empty(file: TokenRows) -> Iterator[Seen]:
    """Responses have no token but the end."""
    return file.some(file.tokens.unanswered)


@TOKENS.check("rows_duplicate", "warning", remedy=without_repetitions, of_rows=True)
def _rows_duplicate(file: TokenRows) -> Iterator[Seen]:
    """Rows are repeated."""
    form = "pairs" if file.tokens.chat is not None else file.facts.form
    return (Seen({**seen.args, "form": form}) for seen in file.some(file.tokens.repeated))


@TOKENS.check("unknown_tokens", "warning", "error", remedy=show_row, of_rows=True)
def _unknown_tokens(file: TokenRows) -> Iterator[Seen]:
    """The tokenizer does not know 1 % of the tokens; an error from 20 %."""
    share = file.tokens.unknown_tokens / max(1, file.tokens.tokens)
    if share >= UNKNOWN_WARNING:
        args = {"path": file.path, "share": percent(share), "tokenizer": tokenizer_folder(file.config), "first": 0}
        yield Seen(args, "error" if share >= UNKNOWN_ERROR else "warning")


# --- both files


@BOTH.check("rows_overlap", "warning", subject="validation_file", remedy=split_again)
def _rows_overlap(files: TwoFiles) -> Iterator[Seen]:
    """Validation rows are also training rows."""
    if files.valid is not None and files.overlap.rows:
        count = {"count": files.overlap.rows, "rows": files.valid.rows, "first": files.overlap.first}
        yield Seen({"path": files.config.validation_file, **count})


@BOTH.check("rows_few", "warning", subject="train_file", remedy=fewer_a_step)
def _rows_few(files: TwoFiles) -> Iterator[Seen]:
    """There are fewer training rows than a step takes."""
    if files.train.usable < files.batch:
        yield Seen({"path": files.config.train_file, "rows": files.train.usable, "batch": files.batch})


@BOTH.check("script_differs", "warning", subject="validation_file", remedy=split_again)
def _script_differs(files: TwoFiles) -> Iterator[Seen]:
    """Validation and training rows are mostly in different scripts."""
    train, valid = files.train.script, files.valid.script if files.valid else ""
    if train and valid and train != valid:
        yield Seen({"train": script_name(train), "valid": script_name(valid)})
