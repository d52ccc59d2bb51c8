"""Survey: `python -m engine.inspect` reports the contents of data files and a model, without torch and within limits.

Runs in a process of its own because its input is untrusted: a file that makes a reader crash, hang or eat memory ends
only this process. The request is one JSON object on standard input, the answer is lines of JSON on standard
output: what is being read, how far it is, and finally the facts. Rows are tokenized into the token store that the
training uses, so that nothing is read twice.
"""

import importlib.util
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.contract import config as settings
from engine.contract.bounds import as_json
from engine.contract.config import RunConfig
from engine.contract.facts import (
    MOST_SHOWN,
    Batch,
    Damage,
    DataFacts,
    FileFacts,
    Histogram,
    LengthFacts,
    ModelFacts,
    PieceFacts,
    RowFacts,
    SomeRows,
    StepFacts,
    StoreFacts,
    TokenFacts,
    TokenizerFacts,
)
from engine.contract.import_report import ColumnsReport, ImportReport, TokenizerReport
from engine.contract.inputs import USUAL_COLUMNS, require_files, tokenizer_folder
from engine.contract.memory import MemoryFacts
from engine.contract.messages import InputError, Message
from engine.contract.processor import multiplies_bf16
from engine.contract.requests import (
    ColumnsRequest,
    DataRequest,
    DemoRequest,
    DemoTextsRequest,
    ImportRequest,
    MemoryRequest,
    ModelRequest,
    Request,
    RowRequest,
    TokenizerRequest,
    read_task,
)
from engine.data import batching, journal
from engine.data.encoding import cut, encode
from engine.data.parquet_rows import RowSource
from engine.data.references import references, rows_replied
from engine.data.shorten import Encode, Prompt, require_turns, shortened
from engine.data.text_checks import Text, TextTally
from engine.data.token_store import TokenStore, is_stored, open_store
from engine.models import checksums, inspection, weightfile
from engine.models.finite import require_numbers
from engine.models.memory import MemoryPlan
from engine.process.heartbeat import end_with

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEMORY_LIMIT = 2 << 30  # bytes of private memory
PACE = 0.2  # minimum seconds between two lines of progress
BINS = 24  # in the histogram of lengths
TOKENIZER_ROWS, LONGEST_TEXT = 100_000, 2000  # rows that a tokenizer is trained on, and characters of each


def send(**what: Any) -> None:
    """Writes one line of the answer."""
    sys.stdout.write(json.dumps(what) + "\n")  # ASCII, whatever the locale
    sys.stdout.flush()


def limit_this_process() -> None:
    """Disables core dumps, and limits memory to what an inspection can need."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_LIMIT if most == resource.RLIM_INFINITY else min(MEMORY_LIMIT, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


class _Hidden:
    """Makes torch look uninstalled: transformers' tokenizers work without it, and start in a third of the time."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)
        return None


def hide_torch() -> None:
    """Makes `import torch` fail in this process from now on."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    sys.meta_path.insert(0, _Hidden())
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == "torch" else found(name, *rest)


def data_facts(config: RunConfig, names: Sequence[str], processes: int, *, tokenize: bool = True) -> DataFacts:
    """Facts about the data files of some settings and about the tokenizer; an error in place of what cannot be read.

    Without `tokenize` only the rows are examined.
    """
    tokenizer, about = _asked_tokenizer(config) if tokenize else (None, None)
    stores: dict[str, TokenStore] = {}
    files: dict[str, FileFacts | Message] = {}
    for name in names:
        files[name] = facts = _facts_or_error(config, name, tokenizer, stores)
        if isinstance(facts, Message) and facts.code == "tokenizer_bad":  # which shows only when it is used on rows
            about, tokenizer = facts, None
            files[name] = _facts_or_error(config, name, None, stores)
    steps = _steps(stores, config, processes) if "train_file" in stores else None
    return DataFacts(tokenizer=about, overlap=_overlap(list(stores.values())), steps=steps, **files)


def _asked_tokenizer(config: RunConfig) -> "tuple[PreTrainedTokenizerBase | None, TokenizerFacts | Message]":
    """The tokenizer and the facts about it, or the error that says why it cannot be used."""
    try:
        require_files(config, "tokenizer")
        tokenizer, facts = _tokenizer(tokenizer_folder(config))
        return tokenizer, replace(facts, differs=_differs(tokenizer, config))
    except InputError as error:
        return None, error.message


def _overlap(stores: list[TokenStore]) -> SomeRows:
    """The rows of the second of two files that the first has too."""
    if len(stores) < 2:
        return SomeRows()
    first, second = stores
    return _rows_where(np.isin(second.hashes, first.hashes), second)


def _rows_where(found: npt.NDArray[np.bool_], store: TokenStore) -> SomeRows:
    """How many rows of a store these are, and the number of the first."""
    return SomeRows(int(found.sum()), int(store.rows[int(found.argmax())])) if found.any() else SomeRows()


def _facts_or_error(
    config: RunConfig, name: str, tokenizer: "PreTrainedTokenizerBase | None", stores: dict[str, TokenStore]
) -> FileFacts | Message:
    try:
        return _file_facts(config, name, tokenizer, stores)
    except InputError as error:
        return error.message
    except MemoryError:
        why = f"its content does not fit {MEMORY_LIMIT >> 30} GB of memory"
        return Message.of("parquet_bad", path=str(getattr(config, name)), why=why)


def _tokenizer(path: str) -> "tuple[PreTrainedTokenizerBase, TokenizerFacts]":
    send(doing="tokenizer")
    hide_torch()
    from engine.data.tokenizer import facts_of, load_tokenizer

    tokenizer = load_tokenizer(path)
    return tokenizer, facts_of(tokenizer)


def _differs(tokenizer: "PreTrainedTokenizerBase", config: RunConfig) -> Message | None:
    """How a tokenizer differs from the one in the model's folder; None if it does not."""
    from engine.data.tokenizer import require_own_vocabulary

    try:
        require_own_vocabulary(tokenizer, config)
    except InputError as error:
        return error.message
    return None


def _file_facts(
    config: RunConfig, name: str, tokenizer: "PreTrainedTokenizerBase | None", stores: dict[str, TokenStore]
) -> FileFacts:
    source = RowSource.of(config, name)
    weightfile.require_regular(source.path, name)
    send(doing=name)
    file = source.open()
    rows = file.metadata.num_rows
    if not rows:
        raise InputError("rows_none", path=str(source.path))
    if tokenizer is None:
        tally = TextTally()
        report = _paced(name)
        for prompts, labels, _ in source.batches(file):
            tally.count(prompts, labels)
            report(tally.rows, rows)
        tally.require_rows(source.path, config.prompt_column, config.response_column)
        return _text_facts(tally.to_json())
    if is_stored(source, tokenizer, config.max_seq_len, Path(config.token_store)):
        send(doing="token_store")  # a crash after this point is not the data file's fault
    store, kept = _store(source, tokenizer, config, _paced(name))
    stores[name] = store
    return replace(_text_facts(store.meta), tokens=_token_facts(store, kept))


def _text_facts(tally: Mapping[str, Any]) -> FileFacts:
    """The facts on the texts of a file that `TextTally` counted."""
    control, odd = (SomeRows(tally[f"{what}_rows"], tally[f"first_{what}"]) for what in ("control", "replacement"))
    return FileFacts(tally["rows"], tally["dropped"], tally["first_dropped"], control, odd, tally["scripts"])


def _store(
    source: RowSource, tokenizer: "PreTrainedTokenizerBase", config: RunConfig, report: Callable[[int, int], None]
) -> tuple[TokenStore, bool]:
    """The store of a file, and whether it is kept for the run, together with the references for scoring replies."""
    try:
        root, looking = Path(config.token_store), _paced("token_store")
        store = open_store(source, tokenizer, config.max_seq_len, root, report, looking)
        if source.setting != "train_file":
            send(doing=source.setting)
            references(source, store, rows_replied(config, len(store)))
        return store, True
    except InputError as error:
        if error.message.code != "folder_unwritable":
            raise
    with tempfile.TemporaryDirectory() as folder:  # the check must work in folders that are not writable
        return open_store(source, tokenizer, config.max_seq_len, Path(folder), report), False


def _paced(name: str) -> Callable[[int, int], None]:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PACE:
            last = now
            send(doing=name, done=done, total=total)

    return report


def _paced_files() -> Callable[[str, int, int], None]:
    reports: dict[str, Callable[[int, int], None]] = {}

    def report(path: str, done: int, total: int) -> None:
        reports.setdefault(path, _paced(path))(done, total)

    return report


def _token_facts(store: TokenStore, kept: bool) -> TokenFacts:
    """The facts on a file's rows as tokens; `kept` says whether the store is kept for the run."""
    again, whole = np.ones(len(store), dtype=bool), store.whole_lengths()
    again[np.unique(store.hashes, return_index=True)[1]] = False
    damage = Damage(str(store.damage.path), store.damage.why) if store.damage else None
    return TokenFacts(
        unknown_tokens=store.meta["unknown_tokens"],
        **{name: store.meta[name] for name in ("turns_rows", "turns_left_out", "turns_longest")},
        **store.cuts(),
        prompt=_lengths(whole.prompt),
        label=_lengths(whole.label),
        unanswered=_rows_where(whole.label <= 1, store),
        repeated=_rows_where(again, store),
        store=StoreFacts(store.bytes, kept, damage),
    )


def _lengths(lengths: npt.NDArray[np.int64]) -> LengthFacts:
    """Quantiles and a histogram of lengths before cutting."""
    median, most, longest = (int(x) for x in np.quantile(lengths, (0.5, 0.95, 1), method="nearest"))
    edges = np.linspace(0, max(longest, 1), BINS + 1)
    counts, _ = np.histogram(lengths, edges)
    shown = tuple(round(float(edge), 1) for edge in edges)
    return LengthFacts(median, most, longest, Histogram(shown, tuple(counts.tolist())))


def _steps(stores: Mapping[str, TokenStore], config: RunConfig, processes: int) -> StepFacts:
    store = stores["train_file"]
    lengths = store.lengths(range(len(store)))
    batch = config.effective_batch(processes)
    per_epoch = batching.steps_per_epoch(len(store), batch)
    cut = batching.Partition(batch, processes, config.micro_batch_tokens)
    largest = batching.largest_micro_batches(lengths, cut, config.seed, config.epochs)
    return StepFacts(
        rows=len(store),
        per_epoch=per_epoch,
        total=per_epoch * config.epochs,
        label_tokens=int(lengths.label.sum()),
        prompt_tokens=int(lengths.prompt.sum()),
        largest=tuple(Batch(*batching.padded_shape(places, lengths)) for places in largest),
        packed=tuple(Batch(*batching.packed_shape(places, lengths)) for places in largest),
        generation=_generation(stores.get("validation_file"), config),
    )


def _generation(store: TokenStore | None, config: RunConfig) -> Batch:
    """A batch of replies, with the most tokens of its prompts and its replies."""
    limit = config.max_seq_len
    longest = {"prompt": limit, "label": limit} if store is None else store.longest()
    label = config.max_new_tokens or min(limit, longest["label"])
    return Batch(config.eval_batch_rows, min(limit, longest["prompt"]), label)


def row_facts(config: RunConfig, name: str, row: int) -> RowFacts:
    """How the model sees one row of a file: its pieces, and how many are kept; raises InputError."""
    source = RowSource.of(config, name)
    require_files(config, "tokenizer")
    weightfile.require_regular(source.path, name)
    tokenizer, facts = _tokenizer(tokenizer_folder(config))
    send(doing=name)
    seen, limit = 0, config.max_seq_len
    file = source.open()
    for prompts, labels, starts in source.batches(file):
        if row < seen + len(prompts):
            prompt, response = prompts[row - seen], labels[row - seen]
            found = _kept_turns(source, row, prompt, starts[row - seen], partial(encode, tokenizer=tokenizer), limit)
            shown = replace(
                _pieces(found.text, tokenizer, limit), turns_left_out=found.turns, left_out=found.left_out[:MOST_SHOWN]
            )
            return RowFacts(file.metadata.num_rows, facts, shown, _pieces(response, tokenizer, limit))
        seen += len(prompts)
    raise InputError("row_unknown", path=str(source.path), row=row, last=seen - 1)


class _Kept(NamedTuple):
    """The part of a prompt that is kept, the number of its oldest turns that are left out, and their text."""

    text: Text
    turns: int = 0
    left_out: str = ""


def _kept_turns(
    source: RowSource, row: int, prompt: Text, starts: Sequence[int] | None, encode: Encode, limit: int
) -> _Kept:
    if not starts or not isinstance(prompt, str):
        return _Kept(prompt)
    asked = Prompt(prompt, starts)
    require_turns(source, row, asked)
    if len(starts) == 1 or len(encode([prompt])[0]) <= limit:
        return _Kept(prompt)
    (found,) = shortened([asked], limit, encode)
    return _Kept(found.text, found.turns, prompt[starts[0] : starts[found.turns] - 1])


def _pieces(text: Text, tokenizer: "PreTrainedTokenizerBase", limit: int) -> PieceFacts:
    if not isinstance(text, str):
        return PieceFacts(None if text is None else repr(text)[:200], 0, 0, 0)
    (ids,) = encode([text], tokenizer)
    unknown = 0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id)
    shown = ids if len(ids) <= MOST_SHOWN else [*ids[: MOST_SHOWN - 1], ids[-1]]
    pieces = tuple(map(str, tokenizer.convert_ids_to_tokens(shown)))
    return PieceFacts(text[:MOST_SHOWN], len(ids), len(cut(ids, limit)), unknown, tuple(shown), pieces)


def model_facts(config: RunConfig) -> ModelFacts:
    """Facts about the model that a run starts from, and what vouches for its files; raises InputError."""
    send(doing="pretrained_model")
    require_files(config, "pretrained_model")
    facts = inspection.describe(config)
    if not config.pretrained_model:
        return facts
    path, notes = Path(config.pretrained_model), Path(config.token_store)
    files = weightfile.weight_files(path)
    verified = checksums.verify(files, notes, _paced("pretrained_model"))
    require_numbers(files, notes)
    if path.is_dir():
        _require_generation(path)
    return replace(facts, verified=verified)


def memory_facts(request: MemoryRequest) -> MemoryFacts:
    """The predicted peaks of memory, once `model_facts`, the tokenizer's size and the steps are known."""
    config, steps, model = settings.from_json(request.config), request.steps, request.model
    plan = MemoryPlan(
        loss_chunk_tokens=config.loss_chunk_tokens,
        padded=steps.largest,
        packed=steps.packed,
        generation=steps.generation,
        model_file_bytes=model.weights_bytes,
        bf16=config.mixed_precision != "fp32" and multiplies_bf16(),
        on_gpu=request.on_gpu,
    )
    return inspection.predicted(model, request.tokens, config.freeze, plan)


def _require_generation(path: Path) -> None:
    """Raises InputError if a model's generation settings could not be saved again with it."""
    if "torch" not in sys.modules:
        hide_torch()
    from engine.models.generation import read_generation

    read_generation(path)


def answer(request: Request) -> object:
    """The requested facts; raises InputError."""
    match request:
        case DataRequest():
            config = settings.from_json(request.config)
            return data_facts(config, request.settings, request.processes, tokenize=request.tokenize)
        case ModelRequest():
            return model_facts(settings.from_json(request.config))
        case MemoryRequest():
            return memory_facts(request)
        case RowRequest():
            return row_facts(settings.from_json(request.config), request.setting, request.row)
        case ImportRequest():
            return _import(request)
        case TokenizerRequest():
            return _new_tokenizer(request)
    raise TypeError(f"nobody answers {request.task}")


def _import(request: ImportRequest) -> ImportReport | ColumnsReport:
    import pyarrow.parquet as pq

    from engine.data import demo_corpus
    from engine.data.importing import convert

    if isinstance(request, ColumnsRequest):
        return ColumnsReport(convert.columns_to_name(request, _paced_files()))
    if isinstance(request, DemoRequest):
        send(doing="chatterbot-corpus")
        return convert.import_pairs(request, demo_corpus.pairs())
    if isinstance(request, DemoTextsRequest):
        journal.settle(map(Path, request.files))
        columns = list(USUAL_COLUMNS.values())
        tables = [pq.read_table(path, columns=columns).to_pydict() for path in request.files]
        pairs = (pair for table in tables for pair in zip(*(table[name] for name in columns), strict=True))
        return convert.import_pairs(request, demo_corpus.continuations(pairs))
    return convert.import_files(request, _paced_files())


def _new_tokenizer(request: TokenizerRequest) -> TokenizerReport:
    """Trains a tokenizer on the rows of Parquet files; for large files, on rows spread evenly over all of them."""
    from engine.data.importing.convert import require_plain

    journal.settle(map(Path, request.files))
    require_plain(request.files)
    texts: list[str] = []
    for name in request.files:
        source = RowSource(Path(name), "train_file", request.prompt_column, request.response_column)
        file, seen, report = source.open(), 0, _paced(name)
        every = 1 + file.metadata.num_rows * len(request.files) // TOKENIZER_ROWS
        for prompts, labels, _ in source.batches(file):
            pairs = list(zip(prompts, labels, strict=True))[-seen % every :: every]
            texts += [text[:LONGEST_TEXT] for pair in pairs for text in pair if isinstance(text, str)]
            seen += len(prompts)
            report(seen, file.metadata.num_rows)
    if not any(texts):
        raise InputError("rows_none", path=", ".join(request.files))
    hide_torch()
    from engine.data.tokenizer import train_tokenizer

    over = threading.Event()
    threading.Thread(target=_repeat, args=(request.output, over), daemon=True).start()
    tokens = train_tokenizer(Path(request.output), texts, request.vocabulary)
    over.set()
    return TokenizerReport(tokens, len(texts), request.output)


def _repeat(doing: str, over: threading.Event) -> None:
    """Repeats what is being done until it is done: training a tokenizer is silent, and a silent process is given up."""
    while not over.wait(PACE * 10):
        send(doing=doing)


def main() -> int:
    """Answers requests, one to a line of standard input; 2 if one cannot be answered because of its input."""
    code, begun = 0, False
    for asker, request in map(read_task, sys.stdin.buffer):
        if not begun:
            begun = True
            end_with(asker)
            limit_this_process()
        try:
            send(facts=as_json(answer(request)))
        except InputError as error:
            send(error=as_json(error.message))
            code = error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
