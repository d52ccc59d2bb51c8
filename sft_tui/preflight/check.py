"""The check of a run: asks for the facts of a run, walks the declared checks over them, and finds their remedies."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engine.contract.bounds import Made
from engine.contract.config import RunConfig, to_json
from engine.contract.facts import DATA_FILES, DataFacts, ModelFacts, StepFacts
from engine.contract.inputs import tokenizer_folder
from engine.contract.locks import busy, is_locked
from engine.contract.machine.host import HostReader
from engine.contract.memory import MemoryFacts, MemoryPrediction
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir, refuse_unfinished
from engine.contract.processor import multiplies_bf16
from engine.contract.record import RunRecord
from engine.contract.requests import DataRequest, MemoryRequest, ModelRequest, Request
from engine.contract.texts import Phrase
from sft_tui import rehearsal
from sft_tui.options import options
from sft_tui.preflight import ask_engine, chats, data, disk, machine, model, peak
from sft_tui.preflight.ask_engine import Inspector, InspectorDied, Progress
from sft_tui.preflight.declaration import CheckedRun, Group, Seen, of_message, with_remedies
from sft_tui.preflight.disk import Output
from sft_tui.preflight.finding import ORDER, Finding
from sft_tui.preflight.fix import Command, as_path, command_of
from sft_tui.preflight.model import Model, Precision
from sft_tui.preflight.reader import READER, ReaderEnd
from sft_tui.preflight.request import CheckRequest
from sft_tui.preflight.tokenizing import TOKENIZER, Tokenizer
from sft_tui.rehearsal import Rehearsal, estimate


@dataclass(frozen=True)
class Report:
    """All findings, errors first and otherwise in the order in which to fix them, and the figures behind them."""

    findings: list[Finding]
    data: DataFacts = field(default_factory=DataFacts)
    prediction: MemoryPrediction | None = None  # of one rank, in the machine's memory
    gpu_prediction: MemoryPrediction | None = None  # of one rank, on its GPU
    ranks: int = 1
    learning: Phrase | None = None  # what learns of the model, on a line
    family: str = ""  # of the model, as the setting names it; empty if unknown
    trained: int = 0  # parameters of the model that learn; 0 if unknown
    gathered: int = 0  # bytes of the weights that a model divided among the ranks puts together in a micro-batch

    def count(self, level: str) -> int:
        """The number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def may_be_rehearsed(self) -> bool:
        """Whether a rehearsal can be tried: problems that it may find a way around do not prevent it."""
        errors = {finding.code for finding in self.findings if finding.level == "error"}
        return errors <= {"memory_short", "unfinished_run"} and self.steps > 0

    @property
    def steps(self) -> int:
        """Steps of the run; 0 if unknown."""
        return self.data.steps.total if self.data.steps else 0

    @property
    def exit_code(self) -> int:
        """0, or 2 if there are errors, or 3 if the error is another run in the folder."""
        errors = [finding.code for finding in self.findings if finding.level == "error"]
        return 3 if errors == ["busy"] else 2 if errors else 0


def check(
    request: CheckRequest, progress: Progress = ask_engine.nothing, partly: Callable[[Report], None] | None = None
) -> Report:
    """Runs all checks; never raises for what it finds. `partly` gets the findings that need no file to be read."""
    config = request.config
    host = HostReader().read([], Path(config.output_dir))
    at_once = list(machine.findings(request, host.memory_total))
    at_once += model.PRECISION.findings(_precision(request))
    with Inspector() as inspector, ThreadPoolExecutor(2) as pool:
        of_data = pool.submit(_ask_data, config, DATA_FILES, request.processes, progress)
        of_model = pool.submit(_ask, inspector, config, ModelRequest(to_json(config)), ModelFacts)
        if partly is not None:
            partly(Report(_sorted([*_folders(request), *at_once])))
        rows, about = of_data.result(), of_model.result()
        facts = rows if isinstance(rows, DataFacts) else DataFacts()
        known = Model(config, about, facts.known_tokenizer) if isinstance(about, ModelFacts) else None
        peaks = _ask_memory(inspector, known, facts.steps, request)
    found = [*_of_data(config, rows, request.processes), *_of_model(about, known)]
    if known is not None:
        found += model.undividable(known, request.processes)
    found += [*_folders(request), *disk.unwritable(config, request.logs)]
    if known is not None:
        found += [*_of_disk(request, known, facts), *model.too_long(known, facts), *model.beyond_context(known, facts)]
        found += _of_memory(request, known, peaks)
    found += at_once
    if facts.steps is not None:
        found += TIME.findings(Timed(request, facts.steps))
    run = CheckedRun(
        config,
        request.changed,
        found,
        start=request.start,
        rehearse=request.rehearse,
        pad=known.tokenizer.pad if known and known.tokenizer else None,
        places=min(known.facts.positions.known.values(), default=0) if known else 0,
    )
    needs = peaks if isinstance(peaks, MemoryFacts) else MemoryFacts()
    return Report(
        _sorted(with_remedies(run)),
        facts,
        needs.host,
        needs.device,
        request.processes,
        model.learning(known) if known else None,
        known.facts.kind if known else "",
        known.sizes.trained if known else 0,
        model.gathered(known, bf16=_precision(request).native) if known else 0,
    )


def rehearse_request(request: CheckRequest, progress: rehearsal.Progress) -> Rehearsal:
    """Carries out the rehearsal of a checked run and keeps its result; raises InputError."""
    config, processes = request.asked, request.processes
    free = HostReader().read([], Path(config.output_dir)).memory_available
    elsewhere = f"ACCELERATE_USE_CPU=true {command_of([request.rehearse])}"
    record = RunRecord("", request.preset, "rehearse", to_json(config), processes=processes, elsewhere=elsewhere)
    found = rehearsal.carry_out(record, min(free, request.memory_limit or free), progress)
    return rehearsal.keep(request.logs, config, processes, found)


def check_file(
    config: RunConfig, progress: Progress = ask_engine.nothing, given: Mapping[str, Any] = MappingProxyType({})
) -> Report:
    """Checks only the training file, and the tokenizer if there is one; `given` are options that a remedy keeps."""
    facts = _ask_data(config, ["train_file"], 1, progress)

    def changed(**changes: Any) -> Command:
        path = str(changes.pop("train_file", config.train_file))
        changes.pop("validation_file", None)
        return Command(("data", "check", as_path(path), *options({**given, **changes})))

    if isinstance(facts, ReaderEnd):
        found, facts = list(READER.findings(facts)), DataFacts()
    elif isinstance(facts.train_file, Message):
        found = [of_message(facts.train_file, "train_file")]
    else:
        found = [*chats.of_files(config, facts), *data.of_files(config, facts)]
    run = CheckedRun(config, changed, found)
    return Report(_sorted(with_remedies(run, of_rows=True)), facts)


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: ORDER[finding.level])


# --- asking


def _ask_data(
    config: RunConfig, files: Sequence[str], processes: int, progress: Progress, *, tokenize: bool = True
) -> DataFacts | ReaderEnd:
    """The facts on data files and tokenizer, or how the process ended that was asked for them."""
    request = DataRequest(to_json(config), tuple(files), processes, tokenize)
    try:
        return ask_engine.ask(request, DataFacts, progress)
    except InspectorDied as died:
        end = ReaderEnd(config, died)
    if tokenize and end.died.doing in DATA_FILES:
        facts = _ask_data(config, files, processes, progress, tokenize=False)
        if isinstance(facts, DataFacts):  # the rows can be read: it was the tokenizer that failed on them
            rows = str(getattr(config, end.died.doing))
            args = {"path": tokenizer_folder(config), "rows": rows, "why": end.died.why}
            return replace(facts, tokenizer=Message("tokenizer_died", args))
    return end


def _ask_memory(
    inspector: Inspector, known: Model | None, steps: StepFacts | None, run: CheckRequest
) -> MemoryFacts | Message | ReaderEnd | None:
    """The predicted peaks of a run; None if model, tokenizer or steps are not known."""
    if known is None or known.tokenizer is None or steps is None:
        return None
    tokens, config = known.tokenizer.tokens, known.config
    request = MemoryRequest(to_json(config), known.facts, tokens, steps, run.on_gpu, run.gpus_bf16, run.processes)
    return _ask(inspector, config, request, MemoryFacts)


def _ask(inspector: Inspector, config: RunConfig, request: Request, kind: type[Made]) -> Made | Message | ReaderEnd:
    """The facts of a task, why there are none, or how the process ended that was asked for them."""
    try:
        return inspector.ask(request, kind)
    except InputError as error:
        return error.message
    except InspectorDied as died:
        return ReaderEnd(config, died)


# --- walking


def _of_data(config: RunConfig, facts: DataFacts | ReaderEnd, processes: int) -> Iterator[Finding]:
    if isinstance(facts, ReaderEnd):
        yield from READER.findings(facts)
        return
    for setting in DATA_FILES:
        error = facts.file(setting)
        if isinstance(error, Message):
            yield of_message(error, setting)
    yield from chats.of_files(config, facts)
    yield from data.of_files(config, facts)
    yield from data.of_both(config, facts, processes)
    if isinstance(facts.tokenizer, Message):
        yield of_message(facts.tokenizer, "tokenizer")
    elif facts.tokenizer is not None:
        yield from TOKENIZER.findings(Tokenizer(config, facts.tokenizer, facts))


def _of_model(about: Message | ReaderEnd | ModelFacts, known: Model | None) -> Iterator[Finding]:
    if isinstance(about, ReaderEnd):
        yield from READER.findings(about)
    elif isinstance(about, Message):
        yield of_message(about, "pretrained_model")
    elif known is not None:
        yield from model.findings(known)


def _of_memory(
    request: CheckRequest, known: Model, peaks: MemoryFacts | Message | ReaderEnd | None
) -> Iterator[Finding]:
    if isinstance(peaks, ReaderEnd):
        yield from READER.findings(peaks)
    elif isinstance(peaks, Message):
        yield of_message(peaks, "pretrained_model")
    elif peaks is not None:
        yield from peak.findings(request, known.facts.family, peaks)


def _of_disk(request: CheckRequest, known: Model, facts: DataFacts) -> Iterator[Finding]:
    store = disk.Store.of(facts)
    total = facts.steps.total if facts.steps else 0
    need = disk.writes(request.config, known.sizes, known.facts.weights_bytes, total, store)
    return disk.findings(request.config, need, request.logs, store)


def _folders(request: CheckRequest) -> Iterator[Finding]:
    output = OutputDir(Path(request.config.output_dir))
    try:
        if is_locked(output.path):
            raise busy(output.path)
        if not request.fresh:
            resume = f"sft-tui resume {output.owner().run}"
            fresh = command_of([replace(request.start, fresh=True)])
            refuse_unfinished(output, resume_option=resume, fresh_option=fresh)
    except InputError as error:
        yield of_message(error.message, "output_dir")
    yield from disk.OUTPUT.findings(Output(output, request.config.export_state_dict))


def _precision(request: CheckRequest) -> Precision:
    wanted = request.config.mixed_precision
    if request.on_gpu:
        return Precision(wanted, request.gpus_bf16, "cuda", known=not request.elsewhere)
    return Precision(wanted, multiplies_bf16(), "cpu")


# --- time


@dataclass(frozen=True)
class Timed:
    """A run and its steps."""

    request: CheckRequest
    steps: StepFacts


TIME = Group[Timed]("Time", "time")


@TIME.check("plan", "ok")
def _plan(run: Timed) -> Iterator[Seen]:
    """Steps, effective batch and learning rate."""
    config = run.request.config
    batch, peak_rate = config.effective_batch(run.request.processes), config.peak_learn_rate()
    yield Seen({"per_epoch": run.steps.per_epoch, "total": run.steps.total, "batch": batch, "peak": peak_rate})


@TIME.check("rehearsed", "ok")
def _rehearsed(run: Timed) -> Iterator[Seen]:
    """How long a rehearsal says that it takes."""
    found = run.request.rehearsal
    if found is not None and run.request.launch.nodes == 1:  # or else the network takes time too
        at = time.strftime("%m-%d %H:%M", time.localtime(found.at))
        yield Seen({**estimate(found, run.request.config, run.steps.total), "at": at})
