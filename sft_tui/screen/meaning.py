"""What the settings of a run amount to: batch, steps, learning rate, memory, time, and lengths against the limit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.contract.config import RunConfig
from engine.contract.facts import DataFacts, LengthFacts
from engine.contract.memory import MemoryPrediction
from engine.contract.texts import Lang, say
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.screen.ink import BLOCKS, Line, columns, fit
from sft_tui.text import safe, size
from sft_tui.wrapping import wrap

LEAST_HINT = 52  # columns for the hint at the key that measures the time


@dataclass(frozen=True)
class Meaning:
    """The settings, and what the check knows so far."""

    config: RunConfig = field(default_factory=RunConfig)
    processes: int = 1
    report: Report | None = None
    findings: Sequence[Finding] = ()
    lang: Lang = "en"


def draw(view: Meaning, width: int) -> list[Line]:
    """The lines, each of at most `width` columns."""
    config, lang, report = view.config, view.lang, view.report
    facts = report.data if report else DataFacts()
    batch = config.effective_batch(view.processes)
    parts = f"{config.batch_size_per_gpu} × {config.gradient_accumulation_steps} × {view.processes}"
    lines: list[Line] = [[(say("screen.batch", lang, batch=batch, parts=parts), "")]]
    if facts.steps is not None:
        lines.append([(say("screen.steps", lang, per_epoch=facts.steps.per_epoch, total=facts.steps.total), "")])
    lines.append([(say("screen.peak_rate", lang, peak=f"{config.peak_learn_rate():g}"), "")])
    if report is not None and report.prediction is not None:
        lines += [[(part, "")] for part in _joined(_needs(view, report.prediction, width), width)]
    train = facts.read.get("train_file")
    if train is not None and train.tokens is not None:
        lines += _lengths(train.tokens.label, config, width, lang)
    return lines


def learning(report: Report | None, width: int, lang: Lang) -> list[Line]:
    """What learns of the model, wrapped."""
    if report is None or report.learning is None:
        return []
    return [[(part, "head")] for part in wrap(safe(report.learning.text(lang)), width)]


def _needs(view: Meaning, prediction: MemoryPrediction, width: int) -> list[str]:
    lang = view.lang
    needs = [say("screen.needs_memory", lang, size=size(prediction.total * view.processes))]
    needs += [say("screen.needs_disk", lang, size=f.args["need"]) for f in view.findings if f.code == "disk"][:1]
    times = [say("screen.needs_time", lang, time=f.args["expected"]) for f in view.findings if f.code == "rehearsed"]
    hint = [say("screen.time_by_h", lang)] if width > LEAST_HINT else []
    return [*needs, *(times or hint)]


def _joined(parts: Sequence[str], width: int) -> list[str]:
    """Short texts on as few lines as possible, none of them broken."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and columns([(longer, "")]) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _lengths(label: LengthFacts, config: RunConfig, width: int, lang: Lang) -> list[Line]:
    """The lengths of the responses as a bar of blocks, with the limit at which they are cut."""
    counts, edges = list(label.histogram.counts), list(label.histogram.edges)
    name = say("screen.lengths", lang) + " "
    while len(counts) > 8 and columns([(name, "")]) + len(counts) + 1 > width:  # one more for the limit
        counts, edges = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)], [*edges[:-1:2], edges[-1]]
    most = max(1, *counts)
    blocks: Line = [(name, "dim")]
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        block = BLOCKS[min(7, int(7.99 * (count / most) ** 0.5))] if count else " "
        if low < config.max_seq_len <= high:
            blocks.append(("▏", "warn"))
        blocks.append((block, "bad" if low >= config.max_seq_len else "chart"))
    median = say("screen.median", lang, median=label.median, longest=label.longest, limit=config.max_seq_len)
    return [fit(blocks, width), [(median, "dim")]]
