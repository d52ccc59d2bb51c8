"""The facts about the data files and the tokenizer of a run; its rows are tokenized into the store that it will use."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.contract.bounds import read_as
from engine.contract.config import RunConfig
from engine.contract.facts import (
    Batch,
    ChatFacts,
    Damage,
    DataFacts,
    FileFacts,
    Histogram,
    LeftOutFacts,
    LengthFacts,
    SomeRows,
    StepFacts,
    StoreFacts,
    TokenFacts,
    TokenizerFacts,
)
from engine.contract.inputs import require_files, tokenizer_folder
from engine.contract.leave_out import leave_out_path
from engine.contract.messages import InputError, Message
from engine.data import batching
from engine.data.chat_building import count_chats, require_chats
from engine.data.parquet_rows import RowSource
from engine.data.references import references, rows_replied
from engine.data.row_digests import LeftOut, left_out_of
from engine.data.selection import Selection
from engine.data.text_checks import TextTally
from engine.data.token_store import TokenStore, is_stored, open_store
from engine.inspecting.answer_lines import paced, send
from engine.inspecting.limits import MEMORY_LIMIT, hide_torch
from engine.models import weightfile
from engine.models.registry import family_for

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from transformers import PreTrainedTokenizerBase

    from engine.data.chat.templates import ChatTemplate

OF_TOKENIZER = ("tokenizer_bad", "chat_template_bad")
BINS = 24  # in the histogram of lengths


def data_facts(config: RunConfig, names: Sequence[str], processes: int, *, tokenize: bool = True) -> DataFacts:
    """Facts about the data files of some settings and about the tokenizer; an error in place of what cannot be read.

    Without `tokenize` only the rows are examined.
    """
    tokenizer, about = _asked_tokenizer(config) if tokenize else (None, None)
    stores: dict[str, TokenStore] = {}
    files: dict[str, FileFacts | Message] = {}
    for name in names:
        files[name] = facts = _facts_or_error(config, name, tokenizer, stores)
        if isinstance(facts, Message) and facts.code in OF_TOKENIZER:  # which shows only when it is used on rows
            about, tokenizer = facts, None
            files[name] = _facts_or_error(config, name, None, stores)
    steps = _steps(stores, config, processes) if "train_file" in stores else None
    return DataFacts(tokenizer=about, overlap=_overlap(list(stores.values())), steps=steps, **files)


def _asked_tokenizer(config: RunConfig) -> "tuple[PreTrainedTokenizerBase | None, TokenizerFacts | Message]":
    """The tokenizer and the facts about it, or the error that says why it cannot be used."""
    try:
        require_files(config, "tokenizer")
        tokenizer, facts = read_tokenizer(config)
        unused = _template(tokenizer, config).unused_options if family_for(config).rows == "chat" else ()
        return tokenizer, replace(facts, differs=_differs(tokenizer, config), unused_options=unused)
    except InputError as error:
        return None, error.message


def _template(tokenizer: "PreTrainedTokenizerBase", config: RunConfig) -> "ChatTemplate":
    """The chat template of a run; raises InputError if a tokenizer has none, and none that can be used is set."""
    from engine.data.chat.templates import ChatTemplate

    return ChatTemplate.of(tokenizer, config.chat_template, config.template_options)


def read_tokenizer(config: RunConfig) -> "tuple[PreTrainedTokenizerBase, TokenizerFacts]":
    """The tokenizer of a run and the facts about it; raises InputError."""
    send(doing="tokenizer")
    hide_torch()
    from engine.data.tokenizer import facts_of, load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder(config), family_for(config).tokens)
    return tokenizer, facts_of(tokenizer)


def _differs(tokenizer: "PreTrainedTokenizerBase", config: RunConfig) -> Message | None:
    """How a tokenizer differs from the one in the model's folder; None if it does not."""
    from engine.data.tokenizer import require_own_vocabulary

    try:
        require_own_vocabulary(tokenizer, config)
    except InputError as error:
        return error.message
    return None


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


def _file_facts(
    config: RunConfig, name: str, tokenizer: "PreTrainedTokenizerBase | None", stores: dict[str, TokenStore]
) -> FileFacts:
    source = RowSource.of(config, name, family_for(config).rows)
    weightfile.require_regular(source.path, name)
    send(doing=name)
    file = source.open()
    if not file.metadata.num_rows:
        raise InputError("rows_none", path=str(source.path))
    left_out = _left_out(config) if name == "train_file" else LeftOut()
    shown = LeftOutFacts(len(left_out.rows), SomeRows(len(left_out.stale), min(left_out.stale, default=-1)))
    if tokenizer is None:
        return replace(_text_facts(_tally(source, file, paced(name)).to_json()), left_out=shown)
    if is_stored(source, tokenizer, config.max_seq_len, Path(config.token_store)):
        send(doing="token_store")  # a crash after this point is not the data file's fault
    store, kept = _store(source, tokenizer, config, paced(name))
    if not Selection.without(store, left_out.rows).count:
        raise InputError("rows_all_left_out", path=str(source.path), file=str(leave_out_path(source.path)))
    stores[name] = store
    facts = _text_facts(store.meta)
    return replace(facts, tokens=_token_facts(store, kept), form=source.form(file), left_out=shown)


def _left_out(config: RunConfig) -> LeftOut:
    """The rows that a run leaves out; raises InputError."""
    return left_out_of(Path(config.train_file)) if config.leave_out == "yes" else LeftOut()


def _tally(source: RowSource, file: "pq.ParquetFile", report: Callable[[int, int], None]) -> TextTally:
    """The counts on the texts of a file that no tokenizer reads; raises InputError if no row can be used."""
    tally, rows = TextTally(), file.metadata.num_rows
    if source.chat is not None:
        for chats in source.chats(file):
            count_chats(tally, chats, chats)
            report(tally.rows, rows)
        require_chats(tally, source)
        return tally
    for batch in source.batches(file):
        tally.count(batch)
        report(batch.numbers[-1], rows)
    tally.require_rows(source.path, source.prompt_column, source.response_column)
    return tally


def _text_facts(tally: Mapping[str, Any]) -> FileFacts:
    """The facts on the texts of a file that `TextTally` counted."""
    control, odd = (SomeRows(tally[f"{what}_rows"], tally[f"first_{what}"]) for what in ("control", "replacement"))
    dropped = (tally["dropped"], tally["first_dropped"], tally["noticed"])
    return FileFacts(tally["rows"], *dropped, control, odd, tally["scripts"])


def _store(
    source: RowSource, tokenizer: "PreTrainedTokenizerBase", config: RunConfig, report: Callable[[int, int], None]
) -> tuple[TokenStore, bool]:
    """The store of a file, and whether it is kept for the run, together with the references for scoring replies."""
    try:
        root, looking = Path(config.token_store), paced("token_store")
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
        chat=read_as(ChatFacts, store.meta["chat"]) if "chat" in store.meta else None,
        store=StoreFacts(store.bytes, kept, damage),
        longest_row=int(whole.total.max(initial=0)),
    )


def _lengths(lengths: npt.NDArray[np.int64]) -> LengthFacts:
    """Quantiles and a histogram of lengths before cutting."""
    median, most, longest = (int(x) for x in np.quantile(lengths, (0.5, 0.95, 1), method="nearest"))
    edges = np.linspace(0, max(longest, 1), BINS + 1)
    counts, _ = np.histogram(lengths, edges)
    shown = tuple(round(float(edge), 1) for edge in edges)
    return LengthFacts(median, most, longest, Histogram(shown, tuple(counts.tolist())))


def _rows_where(found: npt.NDArray[np.bool_], store: TokenStore) -> SomeRows:
    """How many rows of a store these are, and the number of the first."""
    return SomeRows(int(found.sum()), int(store.rows[int(found.argmax())])) if found.any() else SomeRows()


def _overlap(stores: list[TokenStore]) -> SomeRows:
    """The rows of the second of two files that the first has too."""
    if len(stores) < 2:
        return SomeRows()
    first, second = stores
    return _rows_where(np.isin(second.hashes, first.hashes), second)


def _steps(stores: Mapping[str, TokenStore], config: RunConfig, processes: int) -> StepFacts:
    store = stores["train_file"]
    selection = Selection.without(store, _left_out(config).rows)
    lengths = store.lengths(range(len(store)))
    if selection.chosen is not None:
        lengths = batching.Lengths(lengths.prompt[selection.chosen], lengths.label[selection.chosen])
    batch = config.effective_batch(processes)
    per_epoch = batching.steps_per_epoch(selection.count, batch)
    cut = batching.Partition(batch, processes, config.micro_batch_tokens, family_for(config).measure)
    largest = batching.largest_micro_batches(lengths, cut, config.seed, config.epochs)
    return StepFacts(
        rows=selection.count,
        per_epoch=per_epoch,
        total=per_epoch * config.epochs,
        label_tokens=int(lengths.label.sum()),
        prompt_tokens=int(lengths.prompt.sum()),
        largest=tuple(Batch(*batching.padded_shape(places, lengths)) for places in largest),
        packed=tuple(Batch(*batching.packed_shape(places, lengths), _tokens(places, lengths)) for places in largest),
        generation=_generation(stores.get("validation_file"), config),
    )


def _tokens(places: Sequence[int], lengths: batching.Lengths) -> int:
    return int(lengths.total[list(places)].sum())


def _generation(store: TokenStore | None, config: RunConfig) -> Batch:
    """A batch of replies, with the most tokens of its prompts and its replies."""
    limit = config.max_seq_len
    longest = {"prompt": limit, "label": limit} if store is None else store.longest()
    label = config.max_new_tokens or min(limit, longest["label"])
    return Batch(config.eval_batch_rows, min(limit, longest["prompt"]), label)
