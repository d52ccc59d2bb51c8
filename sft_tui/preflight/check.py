"""The pre-flight: all checks, in the order in which their findings should be fixed."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from engine.contract import exports
from engine.contract.bounds import as_json, read_as
from engine.contract.config import RunConfig, to_json
from engine.contract.inputs import tokenizer_folder
from engine.contract.locks import busy, is_locked
from engine.contract.memory import MemoryFacts, MemoryPrediction
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir, refuse_unfinished
from engine.contract.processor import multiplies_bf16
from engine.contract.record import RunRecord
from engine.contract.texts import Lang
from sft_tui import rehearsal
from sft_tui.machine import gpus
from sft_tui.machine.host import HostReader
from sft_tui.preflight import ask_engine, data, disk, machine, missing, model
from sft_tui.preflight.ask_engine import Inspector, Progress
from sft_tui.preflight.finding import ORDER, Finding, item, of_error
from sft_tui.preflight.fix import Command, Set, Start, as_path, command_of
from sft_tui.preflight.missing import DATA_FILES
from sft_tui.preflight.remedy import CheckedRun, with_remedies
from sft_tui.rehearsal import Rehearsal, applied, estimate
from sft_tui.starting import DEFAULT_LOGS, options, processes_here
from sft_tui.text import size

TIGHT = 0.85  # share of the available memory
LEAST_BUDGET = 64  # tokens of a micro-batch
# Can be fixed without a run.
OF_FILES = {
    "file_unreadable", "not_parquet", "column_missing", "column_not_text", "rows_truncated", "rows_duplicate",
}  # fmt: skip


@dataclass(frozen=True)
class CheckRequest:
    """The run to check."""

    preset: str
    values: Mapping[str, Any]  # as given, overriding the preset's
    config: RunConfig
    logs: Path
    memory_limit: int = 0  # bytes; 0: the machine's memory
    fresh: bool = False  # move an unfinished run in the output folder aside
    rehearsal: Rehearsal | None = None  # one that applies to this run

    @classmethod
    def of(cls, preset: str, values: Mapping[str, Any], config: RunConfig, logs: Path, **more: Any) -> Self:
        """The request with the budget found by a rehearsal, if there was one."""
        plain = cls(preset, values, config, logs, **more)
        found, rehearsal = applied(logs, config, plain.processes, values)
        return replace(plain, config=found, rehearsal=rehearsal)

    @property
    def asked(self) -> RunConfig:
        """The settings without a rehearsal's budget."""
        if self.rehearsal is None or "micro_batch_tokens" in self.values:
            return self.config
        return replace(self.config, micro_batch_tokens=self.rehearsal.found.micro_batch_tokens_asked)

    @property
    def processes(self) -> int:
        """The number of ranks it will have."""
        return self.config.num_processes or processes_here()

    def but(self, **changes: Any) -> Set:
        """The action that checks this run with other settings."""
        return Set(self.preset, self.values, changes)

    @property
    def start(self) -> Start:
        """The action that starts this run."""
        return Start(self.preset, self.values)

    @property
    def rehearse(self) -> Command:
        """The action that rehearses this run."""
        logs = () if self.logs == DEFAULT_LOGS else ("--logs", str(self.logs))
        return Command(("rehearse", self.preset, *logs, *options(self.values)))


@dataclass(frozen=True)
class Report:
    """All findings, errors first and otherwise in the order in which to fix them, and the figures behind them."""

    findings: list[Finding]
    facts: dict[str, Any] = field(default_factory=dict)
    prediction: MemoryPrediction | None = None  # of one rank, in the machine's memory
    gpu_prediction: MemoryPrediction | None = None  # of one rank, on its GPU
    ranks: int = 1

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
        return int((self.facts.get("data", {}).get("steps") or {}).get("total", 0))

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
    at_once = [*machine.findings(config, request.processes, request.start, host.memory_total), _precision(config)]
    with Inspector() as inspector, ThreadPoolExecutor(2) as pool:
        asked = {
            "data": pool.submit(_asked, "data", config, progress, settings=DATA_FILES, processes=request.processes),
            "model": pool.submit(_answer, inspector, "model", config),
        }
        if partly is not None:
            partly(Report(sorted([*_folders(request), *at_once], key=lambda finding: ORDER[finding.level])))
        facts = {task: future.result() for task, future in asked.items()}
        facts["memory"] = _memory_facts(inspector, config, facts["model"], facts["data"])
    findings: list[Finding] = []
    findings += _data(config, facts["data"], request.processes)
    tokenizer = facts["data"].get("tokenizer", {"error": {"code": "", "args": {}}})
    findings += _model(config, facts["model"], tokenizer)
    findings += [*_folders(request), *disk.unwritable(config, request.logs)]
    peaks = MemoryFacts()
    steps = facts["data"].get("steps")
    if "error" not in facts["model"] and "died" not in facts["model"]:
        counts = model.counted(facts["model"], tokenizer)
        total = steps["total"] if steps else 0
        store = disk.Store.of(facts["data"].get(name, {}) for name in DATA_FILES)
        need = disk.writes(config, counts["parameters"], counts["trained"], total, store)
        findings += disk.findings(config, need, request.logs, store)
        if "error" not in tokenizer:
            findings += model.lengths(config, facts["model"], facts["data"])
    if "died" in facts["memory"]:
        findings.append(_died(facts["memory"]["died"], config))
    elif facts["memory"]:
        peaks = read_as(MemoryFacts, facts["memory"])
        findings += _memory(request, facts["model"], peaks)
    findings += at_once
    if steps:
        batch = config.effective_batch(request.processes)
        plan = {"per_epoch": steps["per_epoch"], "total": steps["total"], "batch": batch}
        findings.append(Finding("ok", "plan", "time", {**plan, "peak": config.peak_learn_rate()}))
        findings += _time(request, steps["total"])
    found = list(missing.with_missing_advice(findings, config, request.but))
    pad = tokenizer.get("special", {}).get("pad")
    places = min(facts["model"].get("positions", {}).values(), default=0)
    found = sorted(
        with_remedies(CheckedRun(config, request.but, found, pad, places)), key=lambda finding: ORDER[finding.level]
    )
    return Report(found, facts, peaks.host, peaks.device, request.processes)


def rehearse_request(request: CheckRequest, progress: rehearsal.Progress) -> Rehearsal:
    """Carries out the rehearsal of a checked run and keeps its result; raises InputError."""
    config, processes = request.asked, request.processes
    free = HostReader().read([], Path(config.output_dir)).memory_available
    elsewhere = f"ACCELERATE_USE_CPU=true {command_of([request.rehearse])}"
    record = RunRecord("", request.preset, "rehearse", to_json(config), processes=processes, elsewhere=elsewhere)
    found = rehearsal.carry_out(record, min(free, request.memory_limit or free), progress)
    return rehearsal.keep(request.logs, config, processes, found)


def check_file(config: RunConfig, progress: Progress = ask_engine.nothing) -> Report:
    """Checks only the training file, and the tokenizer if there is one."""
    facts = _asked("data", config, progress, settings=["train_file"], processes=1)
    if "died" in facts:
        return Report([_died(facts["died"], config)])
    findings = list(data.file_findings(config, "train_file", facts["train_file"]))

    def but(**changes: Any) -> Command:
        path = str(changes.pop("train_file", config.train_file))
        changes.pop("validation_file", None)
        return Command(("data", "check", as_path(path), *options(changes)))

    found = list(missing.with_missing_advice(findings, config, but))
    found = list(with_remedies(CheckedRun(config, but, found), OF_FILES))
    return Report(sorted(found, key=lambda finding: ORDER[finding.level]), {"data": facts})


def _asked(task: str, config: RunConfig, progress: Progress, **more: Any) -> dict[str, Any]:
    """The answer of the engine's process, or {"died": …} if it ended without one."""
    with Inspector() as inspector:
        facts = _answer(inspector, task, config, progress, **more)
    how = facts.get("died")
    if how is None:
        return facts
    if task == "data" and how["doing"] in DATA_FILES and more.get("tokenize", True):
        facts = _asked(task, config, progress, **more, tokenize=False)
        if "died" not in facts:  # the rows can be read: it was the tokenizer that failed on them
            rows = str(getattr(config, how["doing"]))
            error = InputError("tokenizer_died", path=tokenizer_folder(config), rows=rows, why=how["why"])
            named = as_json(error.message)
            return {**facts, "tokenizer": {"error": named}}
    return {"died": how}


def _answer(
    inspector: Inspector, task: str, config: RunConfig, progress: Progress = ask_engine.nothing, **more: Any
) -> dict[str, Any]:
    """The answer of a process of the engine, or {"died": …} if it ended without one."""
    try:
        return inspector.ask(task, config, progress, **more)
    except ask_engine.ProbeDied as died:
        return {"died": {"doing": died.doing, "why": died.why, "cause": died.cause}}


def _died(died: Mapping[str, str], config: RunConfig) -> Finding:
    setting = died["doing"] or "train_file"
    args = {"path": str(getattr(config, setting, setting)), "why": died["why"], "setting": setting}
    return Finding("error", f"probe_{died['cause']}", setting, args)


def _data(config: RunConfig, facts: Mapping[str, Any], processes: int) -> Iterator[Finding]:
    if "died" in facts:
        yield _died(facts["died"], config)
        return
    for name in DATA_FILES:
        yield from data.file_findings(config, name, facts[name])
    yield from data.both_findings(config, facts, config.effective_batch(processes))
    yield from data.tokenizer_findings(config, facts)


def _model(config: RunConfig, facts: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Iterator[Finding]:
    if "died" in facts:
        yield _died(facts["died"], config)
    else:
        yield from model.findings(config, facts, tokenizer)


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
        yield of_error(error, "output_dir")
    export = request.config.export_state_dict
    if export and not exports.may_be_written(Path(export), output):
        yield Finding("warning", "export_kept", "export_state_dict", {"path": export, "best": str(output.best)})


def _memory_facts(
    inspector: Inspector, config: RunConfig, facts: Mapping[str, Any], rows: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer on memory; {} if model, tokenizer or steps are not known."""
    tokenizer = rows.get("tokenizer", {"error": {}})
    if "error" in facts or "died" in facts or "error" in tokenizer or not rows.get("steps"):
        return {}
    known = {"model": facts, "tokens": tokenizer["tokens"], "steps": rows["steps"]}
    return _answer(inspector, "memory", config, **known, on_gpu=_on_gpu())


def _memory(request: CheckRequest, facts: Mapping[str, Any], peaks: MemoryFacts) -> Iterator[Finding]:
    """The findings on the memory that one rank needs, on the machine and on its GPU."""
    if peaks.host is None:
        family = {"family": facts["settings"]["model_type"]}
        yield Finding("warning", "memory_unknown", "memory", family, (request.rehearse,))
    else:
        yield _host_memory(request, peaks.host)
    if peaks.device is not None:
        yield from _gpu_memory(request, peaks.device)


def _on_gpu() -> bool:
    return not gpus.cpu_requested() and gpus.gpu_count() > 0


def _gpu_memory(request: CheckRequest, prediction: MemoryPrediction) -> Iterator[Finding]:
    """A finding for each GPU that a rank uses: the first rank takes the first GPU visible to CUDA, and so on."""
    certain = sum(prediction.items.get(name, 0) for name in ("weights", "gradients", "optimizer"))
    for number, free in enumerate(gpus.free_memory()[: request.processes]):
        args = {"gpu": number, "total": size(prediction.total), **_items(prediction)}
        if free is None:
            yield Finding("warning", "gpu_memory_unknown", "memory", args, (request.rehearse,))
            continue
        args["free"] = size(free)
        if prediction.total <= free:
            yield Finding("ok", "gpu_memory", "memory", args)
        else:
            less = request.but(micro_batch_tokens=max(LEAST_BUDGET, request.config.micro_batch_tokens // 2))
            yield Finding("error" if certain > free else "warning", "gpu_memory_short", "memory", args, (less,))


def _items(prediction: MemoryPrediction, ranks: int = 1) -> dict[str, str]:
    """The items of a prediction, in both languages."""
    shown: dict[str, str] = {}
    languages: tuple[tuple[str, Lang], ...] = (("items", "en"), ("items_zh", "zh"))
    for key, lang in languages:
        text = " · ".join(f"{item(name, lang)} {size(count)}" for name, count in prediction.items.items())
        shown[key] = f"{ranks} × ({text})" if ranks > 1 else text
    return shown


def _host_memory(request: CheckRequest, prediction: MemoryPrediction) -> Finding:
    config = request.config
    host = HostReader().read([], Path(config.output_dir))
    free = min(host.memory_available, request.memory_limit or host.memory_available)
    total, code = prediction.total * request.processes, "memory"
    if request.rehearsal is not None and config.micro_batch_tokens == request.rehearsal.found.micro_batch_tokens:
        total, code = request.rehearsal.found.peak_memory_found, "memory_rehearsed"
    args = {"total": size(total), "free": size(free), "budget": config.micro_batch_tokens}
    args |= _items(prediction, request.processes)
    if total > free:
        advice, less = _advice(request, total, prediction)
        return Finding("error", "memory_short", "memory", args | advice, (less,))
    if total > TIGHT * free:
        less = request.but(micro_batch_tokens=max(LEAST_BUDGET, config.micro_batch_tokens // 2))
        return Finding("warning", "memory_tight", "memory", args, (less,))
    return Finding("ok", code, "memory", args)


def _time(request: CheckRequest, steps_total: int) -> Iterator[Finding]:
    if request.rehearsal is not None:
        at = time.strftime("%m-%d %H:%M", time.localtime(request.rehearsal.at))
        yield Finding("ok", "rehearsed", "time", {**estimate(request.rehearsal, request.config, steps_total), "at": at})


def _advice(request: CheckRequest, total: int, prediction: MemoryPrediction) -> tuple[dict[str, str], Set]:
    """What to do if memory is short: smaller micro-batches if those are large, else fewer processes."""
    config = request.config
    activations = prediction.items.get("activations", 0) * request.processes
    if request.processes > 1:
        less = request.but(num_processes=1, gradient_accumulation_steps=_same_batch(request))
        words = ("One process needs less, with the same effective batch", "单进程占用更少，有效批大小不变")
    elif activations > total // 4 and config.micro_batch_tokens > LEAST_BUDGET:
        less = request.but(micro_batch_tokens=max(LEAST_BUDGET, config.micro_batch_tokens // 2))
        words = ("Halve the budget of a micro-batch; the gradient stays exact", "将微批预算减半，梯度仍然精确")
    else:
        less = request.but(max_seq_len=max(2, config.max_seq_len // 2))
        words = ("Close other programs, or cut rows sooner", "请关闭其他程序，或截短数据")
    return {"advice": f"{words[0]}: `{{command}}`", "advice_zh": f"{words[1]}：`{{command}}`"}, less


def _same_batch(request: CheckRequest) -> int:
    return request.config.gradient_accumulation_steps * request.processes


def _precision(config: RunConfig) -> Finding:
    on_gpu = _on_gpu()
    native = on_gpu or multiplies_bf16()
    return model.precision_finding(config, native=native, device="cuda" if on_gpu else "cpu")
