"""Users' data in the usual formats and shapes, converted to Parquet: two columns of text, or one of messages.

Records are streamed, so that a file of any length takes the memory of one record plus a few bytes per row.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from engine.contract.glances import Form
from engine.contract.import_report import PARTS, ImportReport
from engine.contract.messages import InputError, Value
from engine.contract.reasons import counted
from engine.contract.requests import ImportRequest
from engine.contract.texts import Phrase
from engine.data import journal
from engine.data.importing.charset import require_encoding
from engine.data.importing.readers import Progress, Wanted, missing_column, records
from engine.data.importing.sources import sources_of
from engine.data.importing.targets import Target, targets_of
from engine.data.importing.writing import Choice, Entry, RowCounts, write, written_by_import
from engine.data.shapes.account import PREVIEWED, Account, FileAccount, ImportNotice, RefusedError
from engine.data.shapes.conversation import Conversation, Row
from engine.data.shapes.known import Shaped, shape_names, shaped
from engine.data.text_checks import row_hashes

PREVIEW = 3  # rows
# By the most frequent reason for refusal, if it has a remedy other than naming the columns.
REMEDIES = {
    **dict.fromkeys(("table_not_record", "not_object", "record_long"), "_records"),
    "message_tree": "_trees",
    "answer_is_number": "_options",
    "not_utf8": "_utf8",
    "tools_in_pairs": "_tools",
    **dict.fromkeys(("record_empty", "no_answer", "answer_unlearned", "prompt_empty", "response_empty"), "_content"),
    **dict.fromkeys(("turn_part", "turn_not_text", "column_beyond_text"), "_content"),
}
LOOKED_AT = 50  # records that are searched for columns
UNNAMED = ("no_known_columns", "columns_ambiguous", "column_missing")  # reasons that a person can fix by naming columns
KEYS = 50  # keys of refused records in the message that lists them


def import_files(request: ImportRequest, progress: Progress) -> ImportReport:
    """Imports, and returns the result; raises InputError. `progress` receives a path, bytes done and bytes in total."""
    if request.encoding:
        require_encoding(request.encoding)
    account = Account()
    sources = sources_of(request.files)
    for path, why in sources.passed_over.items():
        code, _, detail = why.partition(":")
        account.passed_over.add(ImportNotice(code, detail), request.shown.get(path, path))
    rows = (row for path in sources.files for row in _rows(path, request, account, progress))
    return _imported(request, account, sources.files, rows)


def columns_to_name(request: ImportRequest, progress: Progress) -> dict[str, str]:
    """The columns of files in whose first records no shape finds prompt and response, with a sample value of each.

    Empty if a shape does, or if something else is wrong with the records; raises InputError.
    """
    asked, found = (request.prompt_column, request.response_column), dict[str, str]()
    for path in sources_of(request.files).files:
        every = records(path, Wanted({}, request.encoding, every=True), FileAccount(str(path)), progress)
        for _, record in islice(every, LOOKED_AT):
            if not isinstance(record, Mapping):
                continue
            try:
                shaped(record, asked)
            except RefusedError as refused:
                if refused.code not in UNNAMED:
                    continue
            else:
                return {}
            for name, value in islice(record.items(), KEYS):
                found[str(name)] = found.get(str(name)) or str(value)[:PREVIEWED]
    return found


def import_pairs(request: ImportRequest, pairs: Iterable[tuple[str, str]]) -> ImportReport:
    """Imports prompts and responses that are already extracted; raises InputError."""
    rows = (Row(prompt, response, opening=prompt) for prompt, response in pairs)
    return _imported(replace(request, form="pairs"), Account(), [], rows)


def require_plain(names: Iterable[str]) -> None:
    """Raises InputError naming the first of these that is not a plain file."""
    for name in names:
        if not Path(name).is_file():
            raise InputError("file_missing", what=Phrase("subject.file"), path=name, setting="train_file")


def _imported(request: ImportRequest, account: Account, sources: list[Path], rows: Iterator[Entry]) -> ImportReport:
    journal.settle(chain(sources, (Path(path) for path in _given(request).values() if path)))
    targets, spared = _targets(request, sources)
    rows = _unique(rows, account)
    form = partial(_form, request, account)  # known when all records were read
    counts = write(rows, targets, _choice(request, targets), form) if targets else RowCounts(sum(1 for _ in rows))
    if account.files and not account.records:
        raise InputError("rows_none", path=", ".join(file.path for file in account.files))
    if not counts.rows:
        reasons = counted(account.refused.counts())
        path, shapes = ", ".join(request.files), ", ".join(shape_names())
        about: dict[str, Value] = {"path": path, "records": account.records, "shapes": shapes, "reasons": reasons}
        raise InputError(f"import_nothing{_remedy(account)}", **about)
    report = replace(account.report(form()), **vars(counts), history=request.history, spared=spared)
    written = {target.part: target.given for target in targets if report.rows_of(target.part)}
    unfilled = {target.part: target.given for target in targets if target.part not in written}
    train, valid, test = (written.get(part, "") for part in PARTS)
    return replace(report, train=train, valid=valid, test=test, unfilled=unfilled)


def _remedy(account: Account) -> str:
    """The message suffix with the remedy for the most frequent refusal."""
    codes = Counter[str]()
    for reason, count in account.refused.counts().items():
        codes["not_utf8" if reason.endswith("_not_utf8") else reason.partition(":")[0]] += count
    return REMEDIES.get(codes.most_common(1)[0][0], "")


def _given(request: ImportRequest) -> dict[str, str]:
    """The files to write by part, as given by the user."""
    return {part: str(getattr(request, part)) for part in PARTS}


def _targets(request: ImportRequest, sources: list[Path]) -> tuple[list[Target], str]:
    """The files to write, and the test file that is left alone; raises InputError."""
    given = _given(request)
    spared = ""
    if request.spare_test and Path(given["test"]).exists() and not written_by_import(Path(given["test"])):
        spared = given.pop("test")
    return targets_of(given, sources, overwrite=request.overwrite), spared


def _choice(request: ImportRequest, targets: list[Target]) -> Choice:
    shares = {"valid": request.valid_ratio, "test": request.test_ratio}
    written = {target.part for target in targets}
    return Choice(request.seed, request.sample, {part: share for part, share in shares.items() if part in written})


def _form(request: ImportRequest, account: Account) -> Form:
    """What is written: as asked for, or else conversations if any record is one."""
    if request.form == "auto":
        return "messages" if account.whole else "pairs"
    return request.form


def _rows(path: Path, request: ImportRequest, account: Account, progress: Progress) -> Iterator[Entry]:
    """The rows of a file, which are also added to the account; raises InputError."""
    file = FileAccount(request.shown.get(str(path), str(path)))
    account.files.append(file)
    name, wanted = Path(file.path).name, Wanted(_named(request), request.encoding)
    asked = (request.prompt_column, request.response_column)
    keys: dict[str, None] = {}
    progress(str(path), 0, 0)
    for place, record in records(path, wanted, file, progress):
        if isinstance(record, ImportNotice):
            account.noticed.add(record, f"{name}:{place}")
            continue
        try:
            made = shaped(record, asked)
            entries, notices = _entries(made, request)
        except RefusedError as refused:
            if isinstance(record, Mapping) and len(keys) < KEYS:
                keys |= dict.fromkeys(map(str, record))
            account.refuse(file, _explained(refused, file), f"{name}:{place}")
            continue
        account.use(file, made.shape, len(entries))
        account.conversations += len(made.conversations)
        account.whole = account.whole or any(isinstance(entry, Conversation) for entry in entries)
        account.answers += sum(entry.answers if isinstance(entry, Conversation) else 1 for entry in entries)
        account.with_history += sum(isinstance(entry, Row) and entry.earlier > 0 for entry in entries)
        for code in made.notices + notices:
            account.noticed.add(ImportNotice(code), f"{name}:{place}")
        yield from entries
    for setting, column in wanted.columns.items():
        if file.records and not file.used and keys and column not in keys:
            raise missing_column(file.path, setting, column, list(keys))


def _entries(made: Shaped, request: ImportRequest) -> tuple[list[Entry], list[str]]:
    """What is written of a record, and codes of what only that lacks; raises RefusedError.

    A question and its answer are held as a pair, which becomes messages if the file does.
    """
    if request.form == "pairs":
        return list(made.pairs(request.history)), made.pair_notices
    entries: list[Entry] = []
    for one in made.conversations:
        entries += [one] if one.whole else one.rows()
    return entries, []


def _named(request: ImportRequest) -> dict[str, str]:
    """The columns that were named, by setting."""
    columns = {"prompt_column": request.prompt_column, "response_column": request.response_column}
    return {setting: name for setting, name in columns.items() if name}


def _explained(refused: RefusedError, file: FileAccount) -> RefusedError:
    """The refusal with all columns of a table, of which only those known to some shape were read."""
    if refused.code in ("no_known_columns", "record_empty") and file.columns:
        return RefusedError("no_known_columns", ", ".join(file.columns))
    return refused


def _unique(rows: Iterator[Entry], account: Account) -> Iterator[Entry]:
    seen: set[int] = set()
    for row in rows:
        (digest,) = row_hashes([row.content]).tolist()
        if digest in seen:
            account.repeated += 1
            continue
        seen.add(digest)
        if len(account.preview) < PREVIEW:
            account.preview.append(row.said)
        yield row
