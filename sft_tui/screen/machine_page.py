"""The page with all readings of a run's machine: memory, processor, GPUs, disk, processes, and where the files are."""

from collections.abc import Iterator, Sequence

from engine.contract import events
from engine.contract.texts import Lang, say, template
from sft_tui import event_text
from sft_tui.curves import GPU_READINGS, gpu_number
from sft_tui.screen import paged
from sft_tui.screen.ink import Line, columns, fit, spark
from sft_tui.screen.run_contents import RunView
from sft_tui.text import safe, size
from sft_tui.wrapping import wrap

LONGEST_NAME = 60  # characters of a machine's name
MOST_READINGS = 32  # of a GPU
LEAST_TREND, MOST_TREND = 8, 64  # columns
METRIC_OF = {reading: metric for metric, reading in GPU_READINGS.items()}


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """The page in a frame."""
    return paged.page(view, [(say("screen.machine", view.lang), "head")], lines(view, width - 4), width, height)


def lines(view: RunView, width: int) -> list[Line]:
    """The whole page in the given number of columns."""
    shown: list[Line] = []
    for key, part in (
        ("memory", _memory),
        ("gpu", _gpus),
        ("disk", _disk),
        ("processes", _processes),
        ("files", _files),
    ):
        body = list(part(view, width))
        if body:
            heading: Line = [(say(f"screen.machine_{key}", view.lang), "accent")]
            shown += [*([[]] if shown else []), heading, *body]
    return shown


def _row(label: str, words: str, width: int, role: str = "") -> Iterator[Line]:
    """A name and its value, on as many lines as the value needs."""
    indent = min(2 + max(12, columns([(label, "")]) + 1), width // 2)
    for place, part in enumerate(wrap(words, max(1, width - indent))):
        yield [*fit([(f"  {label}" if place == 0 else "", "dim")], indent), (part, role)]


def _with_trend(label: str, words: str, past: Sequence[float], most: float, width: int) -> Iterator[Line]:
    """A reading, and what it was over time on the rest of the line, or on the next one if there is too little room."""
    first = list(_row(label, words, width))
    yield from first
    if not past:
        return
    room = width - columns(first[-1]) - 2
    if len(first) == 1 and room >= min(2 * LEAST_TREND, len(past)):
        first[-1].extend([("  ", ""), (spark(past, room, most), "chart")])
    elif width >= LEAST_TREND + 4:
        yield [("    ", ""), (spark(past, width - 4, most), "chart")]


def _memory(view: RunView, width: int) -> Iterator[Line]:
    """Memory of each machine and of each rank, with the highest readings of rank 0's machine; the processors."""
    host, lang = view.state.host, view.lang
    if host is None:
        yield [(f"  {say('screen.no_readings', lang)}", "dim")]
        return
    if host.node:
        yield _heading(host.node, width)
    past = [float(one) for one in view.curves.host]
    yield from _with_trend(say("screen.host", lang), _in_use(host, lang), past, float(host.memory_total), width)
    for place, (rank, memory) in enumerate(host.memory_of_ranks):
        past = [float(reading[place]) for reading in view.curves.memory if place < len(reading)]
        words = _of_rank(host, memory, max([*past, memory]), lang)
        yield from _with_trend(f"{say('screen.rank', lang)} {rank}", words, past, 0.0, width)
    yield from _row("CPU", f"{host.cpu_percent:.0f} %", width)
    for other in view.state.other_hosts:
        yield _heading(other.node, width)
        yield from _row(say("screen.host", lang), _in_use(other, lang), width)
        for rank, memory in other.memory_of_ranks:
            yield from _row(f"{say('screen.rank', lang)} {rank}", _of_rank(other, memory, memory, lang), width)
        yield from _row("CPU", f"{other.cpu_percent:.0f} %", width)


def _heading(node: str, width: int) -> Line:
    return fit([(f"  {safe(node, LONGEST_NAME)}", "head")], width)


def _in_use(host: events.Host, lang: Lang) -> str:
    """How much of a machine's memory is in use."""
    used = host.memory_total - host.memory_available
    counts = {"used": size(used), "total": size(host.memory_total), "free": size(host.memory_available)}
    return say("screen.machine_host", lang, **counts)


def _of_rank(host: events.Host, memory: int, most: float, lang: Lang) -> str:
    """The memory of a process now, its share of the machine's, and its highest reading."""
    share = f"{100 * memory / host.memory_total:.0f}" if host.memory_total > 0 else "-"
    return say("screen.machine_rank", lang, now=size(memory), share=share, most=size(most))


def _gpus(view: RunView, width: int) -> Iterator[Line]:
    """Everything that the driver reports of each GPU; a reading that it cannot give with the reason."""
    if view.state.unseen is not None and not view.state.gpus:
        yield from _row("", view.state.unseen.text(view.lang), width)
    for gpu in view.state.gpus:
        node = f"{safe(gpu.node, LONGEST_NAME)} · " if gpu.node else ""
        yield fit([(f"  {node}GPU {gpu.index} ", "head"), (safe(gpu.name, 80), "")], width)
        if gpu.lost:
            yield from _row("", say("screen.gpu_lost_page", view.lang), width, "warn")
            continue
        for name, value in list(gpu.readings.items())[:MOST_READINGS]:
            label = safe(template(f"screen.gpu_reading.{name}", view.lang) or name, 30)
            past = [] if gpu.machine else _past(view, METRIC_OF.get(name, ""), str(gpu.index))
            most = 100.0 if name == "utilization" else 0.0
            yield from _with_trend(label, _reading(gpu, name, value), past, most, width)


def _past(view: RunView, metric: str, name: str) -> list[float]:
    """A reading over the steps of the run so far, in columns that have any."""
    curve = view.curves.readings.get(metric, {}).get(name)
    if curve is None:
        return []
    return [bucket.mean for bucket in curve.between(1, curve.last, MOST_TREND) if bucket.known]


def _reading(gpu: events.Gpu, name: str, value: str) -> str:
    """A reading with its unit."""
    number = gpu_number(gpu, name)
    if number is None:
        return safe(value, 200)
    if name.startswith("memory_") and number > 100:
        return size(number)
    unit = {"utilization": " %", "temperature": " °C", "power": " W", "power_limit": " W"}.get(name, "")
    return f"{number:g}{unit}"


def _disk(view: RunView, width: int) -> Iterator[Line]:
    """Free space, the newest checkpoint, and the best model."""
    state, lang = view.state, view.lang
    if state.host is not None:
        yield from _row(say("screen.free", lang), size(state.host.disk_available), width)
    if state.checkpoint is not None:
        saved = {"step": f"{state.checkpoint.step:,}", "size": size(state.checkpoint.size)}
        words = say("screen.machine_saved", lang, **saved, seconds=f"{state.checkpoint.seconds:.1f}")
        yield from _row(say("screen.saved", lang), words, width)
    if state.best is not None:
        yield from _row(*event_text.best_score(state.best, lang), width)


def _processes(view: RunView, width: int) -> Iterator[Line]:
    """The processes of the newest attempt, and whether the run is alive."""
    found, lang = view.facts.processes, view.lang
    if not found.attempt:
        return
    alive = say("screen.machine_alive" if view.run.alive else "screen.machine_gone", lang)
    yield from _row(say("screen.machine_attempt", lang), f"{found.attempt} · {alive}", width)
    yield from _row(say("screen.machine_supervisor", lang), f"pid {found.supervisor.pid}", width)
    for rank, process in enumerate(found.ranks):
        yield from _row(f"{say('screen.rank', lang)} {rank}", f"pid {process.pid}", width)


def _files(view: RunView, width: int) -> Iterator[Line]:
    """Where the run writes."""
    run_dir, output, lang = view.run.run_dir, view.run.output or view.run.record.output, view.lang
    places = {
        "folder": run_dir.path, "log": run_dir.plain_log, "output": run_dir.trainer_output,
        "checkpoints": output.checkpoints, "best": output.best,
    }  # fmt: skip
    for key, place in places.items():
        yield from _row(say(f"screen.machine_file_{key}", lang), safe(str(place), 400), width)
