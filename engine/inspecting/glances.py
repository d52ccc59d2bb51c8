"""What a file of rows or a model's folder is at first sight: by its first records, its schema, its headers."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.facts import LONGEST_NAME
from engine.contract.glances import MOST_COLUMNS, DataGlance, Form, ModelGlance
from engine.contract.inputs import USUAL_COLUMNS, has_tokenizer
from engine.contract.requests import DataGlanceRequest, ModelGlanceRequest
from engine.data import journal
from engine.data.formats import TABLES
from engine.data.importing.readers import Wanted, records
from engine.data.shapes.account import FileAccount, ImportNotice, RefusedError
from engine.data.shapes.known import shaped
from engine.data.text_checks import TextTally
from engine.inspecting.answer_lines import send
from engine.models.inspection import title_of, usual_dtype
from engine.models.model_folder import Settings
from engine.models.registry import opened

SHAPED = 200  # records whose shape is looked at
COUNTED = 20_000  # records that are counted; those of a longer file are estimated from its size
SAMPLED = 2000  # characters of a text by which the script is found
LONGEST_SETTINGS = 10 << 20  # bytes of a tokenizer's configuration


def glance(request: DataGlanceRequest | ModelGlanceRequest) -> DataGlance | ModelGlance:
    """What a file of rows or a model's folder is; raises InputError."""
    return data_glance(request) if isinstance(request, DataGlanceRequest) else model_glance(request)


def data_glance(request: DataGlanceRequest) -> DataGlance:
    """A file of rows by its first records; raises InputError if none can be read."""
    send(doing=request.path)
    path, account, read = Path(request.path), FileAccount(request.path), [(0, 0)]
    journal.settle([path])
    items = records(path, Wanted({}, every=True), account, lambda _path, *done: read.append(done))
    rows = (record for _, record in items if not isinstance(record, ImportNotice))
    first = _FirstRecords(islice(rows, SHAPED))
    count = first.count + sum(1 for _ in islice(rows, COUNTED - SHAPED))
    counted = next(rows, None) is None
    if not counted:
        done, total = read[-1]  # rows of a table, bytes of a text
        count = total if account.format in TABLES else count * total // max(1, done)
    names = account.columns or first.keys
    ready = account.format == "parquet" and _is_ready(account.columns)
    columns = tuple(name[:LONGEST_NAME] for name in names)[:MOST_COLUMNS]
    return DataGlance(account.format, count, counted, ready, first.form, first.shape, columns, first.script)


def _is_ready(columns: Iterable[str]) -> bool:
    """Whether a run reads these columns of a Parquet file without an import."""
    return RunConfig.messages_column in columns or set(USUAL_COLUMNS.values()).issubset(columns)


class _FirstRecords:
    """The first records of a file: how many, their keys, their usual shape and form, and their script."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self.count = 0
        self.form: Form = "pairs"
        self.keys: dict[str, None] = {}
        self._shapes, self._texts = Counter[str](), list[str]()
        for record in rows:
            self._add(record)

    @property
    def shape(self) -> str:
        """The shape of most of them; empty if none has a known one."""
        return next((name[:LONGEST_NAME] for name, _ in self._shapes.most_common(1)), "")

    @property
    def script(self) -> str:
        """The script of most letters; empty if there are none."""
        tally = TextTally()
        tally.add([None] * len(self._texts), self._texts, range(len(self._texts)))
        return next(iter(tally.to_json()["scripts"]), "")

    def _add(self, record: Any) -> None:
        self.count += 1
        if isinstance(record, Mapping):
            self.keys |= dict.fromkeys(islice(map(str, record), MOST_COLUMNS))
        try:
            made = shaped(record)
        except RefusedError:
            values = record.values() if isinstance(record, Mapping) else ()
            self._texts += [value[:SAMPLED] for value in values if isinstance(value, str)]
            return
        self._shapes[made.shape] += 1
        if any(one.whole for one in made.conversations):
            self.form = "messages"
        self._texts += [turn.text[:SAMPLED] for one in made.conversations for turn in one.all_turns]


# --- models


def model_glance(request: ModelGlanceRequest) -> ModelGlance:
    """A model's folder by its configuration and the headers of its files; raises InputError if it is not one."""
    send(doing=request.path)
    path = Path(request.path)
    family, folder = opened(path)
    parameters = sum(tensor.count for tensor in folder.tensors.values())
    kinds = (tensor.kind for tensor in folder.tensors.values())
    return ModelGlance(
        title_of(path, folder.settings), _text(folder.settings, "model_type"), family.name, parameters,
        usual_dtype(kinds), folder.size, _has_template(path), has_tokenizer(str(path)),
    )  # fmt: skip


def _text(settings: Settings, name: str) -> str:
    value = settings.get(name)
    return value[:LONGEST_NAME] if isinstance(value, str) else ""


def _has_template(path: Path) -> bool:
    """Whether the tokenizer in a folder has a chat template."""
    if any((path / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    settings = path / "tokenizer_config.json"
    try:
        if not settings.is_file() or settings.stat().st_size > LONGEST_SETTINGS:
            return False
        said = json.loads(settings.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and bool(said.get("chat_template"))
