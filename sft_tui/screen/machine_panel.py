"""The panel with the machine of a run: memory and its limit, and a part for each GPU, or for the processor."""

import math

from rich.cells import set_cell_size

from engine.contract import events
from engine.contract.texts import Lang, say
from sft_tui import event_text
from sft_tui.curves import gpu_number
from sft_tui.screen.ink import Line, bar, columns, filled, fit, frame, spark
from sft_tui.screen.run_contents import RunView
from sft_tui.text import safe, size

LABEL = 9  # columns of a name
MOST_RANKS = 8
GPU_LINES = 3
MOST_NAMED = 24  # columns of a machine's name
BAR = 9  # columns; so that a GPU fits into the panel on a screen of 120 columns


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """Everything in a box; a GPU takes one line if there is no room for its own part."""
    room = width - 4
    lines = _memory(view, room)
    below = _disk(view)
    gpus = _gpus_of(view, 0)
    if gpus and len(lines) + len(below) + GPU_LINES * len(gpus) <= height - 2:
        lines += [line for gpu in gpus for line in _gpu_part(gpu, view.lang, room)]
    elif gpus:
        lines += [fit(_gpu_line(gpu, view.lang), room) for gpu in gpus]
    elif view.state.host is not None:
        lines += [_rule([("CPU", "head")], room), _load(view.lang, view.state.host.cpu_percent, room)]
    host = view.state.host
    named: Line = [(f" · {safe(host.node, MOST_NAMED)}", "dim")] if host is not None and host.node else []
    others = [line for other in view.state.other_hosts for line in _other(view, other, room)]
    title: Line = [(say("screen.machine", view.lang), "head"), *named]
    return frame(title, [*lines, *below, *others], width, height)


def brief(view: RunView, width: int, height: int) -> list[Line]:
    """The same in one or two lines: memory with the ranks' memory; the GPUs, or the processor."""
    state, lang = view.state, view.lang
    if state.host is None:
        return filled([[(say("screen.no_readings", lang), "dim")]], width, height)
    first = _host(lang, state.host, [], 0)
    for rank, memory in state.host.memory_of_ranks[:MOST_RANKS]:
        part: Line = [(f"  {say('screen.rank', lang)} {rank} ", "dim"), (size(memory), "")]
        if columns(first) + columns(part) <= width:
            first += part
    second: Line = []
    gpus = _gpus_of(view, 0)
    for gpu in gpus:
        part = [*([("  ", "")] if second else []), *_gpu_line(gpu, lang, LABEL - 3, limit=False)]
        if columns(second) + columns(part) <= width:
            second += part
    if not gpus:
        second = _processor(view)
    return filled([first, second], width, height)


def _memory(view: RunView, width: int) -> list[Line]:
    """Memory of the machine and of each rank, with trends and the ranks' shares of the machine's memory."""
    host, lang = view.state.host, view.lang
    if host is None:
        return [[(say("screen.no_readings", lang), "dim")]]
    lines = [_host(lang, host, [float(one) for one in view.curves.host], width)]
    for place, (rank, memory) in enumerate(host.memory_of_ranks[:MOST_RANKS]):
        past = [float(reading[place]) for reading in view.curves.memory if place < len(reading)]
        share = f"{100 * memory / host.memory_total:3.0f} %" if host.memory_total > 0 else ""
        line: Line = [(_label(f"{say('screen.rank', lang)} {rank}"), "dim"), (f"{size(memory):>10} {share:>5} ", "")]
        lines.append([*line, (spark(past, width - columns(line)), "chart")])
    return lines


def _gpus_of(view: RunView, machine: int) -> list[events.Gpu]:
    return [gpu for gpu in view.state.gpus if gpu.machine == machine]


def _other(view: RunView, host: events.Host, width: int) -> list[Line]:
    """A machine that is not rank 0's: its name, its memory, and a line for each GPU, or the processor."""
    lang = view.lang
    lines = [_rule([(safe(host.node, MOST_NAMED), "head")], width), fit(_host(lang, host, [], 0), width)]
    gpus = [fit(_gpu_line(gpu, lang), width) for gpu in _gpus_of(view, host.machine)]
    return [*lines, *(gpus or [_load(lang, host.cpu_percent, width)])]


def _host(lang: Lang, host: events.Host, past: list[float], width: int) -> Line:
    """Memory in use out of the total, its trend on that scale if there is room, and free memory."""
    used = host.memory_total - host.memory_available
    tight = host.memory_total > 0 and host.memory_available < 0.1 * host.memory_total
    role = "warn" if tight else ""
    free = ("! " if tight else "") + size(host.memory_available)
    line: Line = [
        (_label(say("screen.host", lang)), "dim"),
        (f"{used / 1e9:.1f}/{host.memory_total / 1e9:.1f} GB", role),
    ]
    end: Line = [(f"  {say('screen.free', lang)} ", "dim"), (free, role)]
    room = width - columns(line) - columns(end) - 1
    trend = spark(past, room, float(host.memory_total)) if room >= 4 else ""
    return [*line, *([(f" {trend}", "chart")] if trend else []), *end]


def _disk(view: RunView) -> list[Line]:
    """The processor if GPUs take its place above, the disk, the newest checkpoint and the best score."""
    state, lang = view.state, view.lang
    lines: list[Line] = []
    if state.host is not None:
        free: Line = [(_label(say("screen.disk", lang)), "dim"), (size(state.host.disk_available), "")]
        lines.append(_processor(view) if _gpus_of(view, 0) else free)
    if state.checkpoint is not None:
        point = f"{state.checkpoint.step:,}  {size(state.checkpoint.size)}"
        lines.append([(_label(say("screen.saved", lang)), "dim"), (point, "")])
    if state.best is not None:
        name, score = event_text.best_score(state.best, lang)
        lines.append([(_label(name), "dim"), (score, "")])
    return lines


def _processor(view: RunView) -> Line:
    host, lang = view.state.host, view.lang
    assert host is not None
    line: Line = [(_label("CPU"), "dim"), (f"{host.cpu_percent:3.0f} %", "")]
    return [*line, (f"  {say('screen.disk_free', lang)} ", "dim"), (size(host.disk_available), "")]


def _gpu_part(gpu: events.Gpu, lang: Lang, width: int) -> list[Line]:
    """Three lines: its name; load, temperature and power; memory. Two of a GPU that is lost."""
    name = safe(gpu.name, 60)
    title: Line = [(f"GPU {gpu.index}", "head"), *([] if name.startswith("N/A") else [(f" {name}", "dim")])]
    if gpu.lost:
        return [_rule(title, width), fit([(say("screen.gpu_lost", lang), "warn")], width)]
    load = gpu_number(gpu, "utilization")
    used, total = gpu_number(gpu, "memory_used"), gpu_number(gpu, "memory_total")
    share = 100 * used / total if used is not None and total else None
    memory: Line = [(_label(say("screen.host", lang)), "dim"), *bar((share or 0) / 100, BAR)]
    return [
        _rule(title, width),
        fit([*_load(lang, load, 0), (f"  {_heat(gpu)}  {_power(gpu)}", "")], width),
        fit([*memory, (f" {_percent(share)}  {_memory_of(gpu)}", "")], width),
    ]


def _gpu_line(gpu: events.Gpu, lang: Lang, label: int = LABEL, *, limit: bool = True) -> Line:
    """All readings of a GPU on one line, with or without its power limit."""
    name = (set_cell_size(f"GPU {gpu.index}", label - 1) + " ", "dim")
    if gpu.lost:
        return [name, (say("screen.gpu_lost", lang), "warn")]
    words = f"{_percent(gpu_number(gpu, 'utilization'))}  {_memory_of(gpu)}  {_heat(gpu)}  {_power(gpu, limit=limit)}"
    return [name, (words, "")]


def _load(lang: Lang, percent: float | None, width: int) -> Line:
    known = percent if percent is not None and math.isfinite(percent) else None
    line: Line = [(_label(say("screen.load", lang)), "dim"), *bar((known or 0) / 100, BAR), (f" {_percent(known)}", "")]
    return fit(line, width) if width else line


def _rule(title: Line, width: int) -> Line:
    shown = fit(title, min(columns(title), width - 4))
    return [("─ ", "frame"), *shown, (" " + "─" * (width - columns(shown) - 3), "frame")]


def _label(name: str) -> str:
    """A name padded to its columns."""
    return set_cell_size(name, LABEL - 1) + " "


def _percent(value: float | None) -> str:
    return "  -  " if value is None else f"{value:3.0f} %"


def _heat(gpu: events.Gpu) -> str:
    value = gpu_number(gpu, "temperature")
    return "- °C" if value is None else f"{value:.0f} °C"


def _power(gpu: events.Gpu, *, limit: bool = True) -> str:
    values = [gpu_number(gpu, name) for name in ("power", "power_limit")[: 1 + limit]]
    return "/".join("-" if value is None else f"{value:.0f}" for value in values) + " W"


def _memory_of(gpu: events.Gpu) -> str:
    values = (gpu_number(gpu, "memory_used"), gpu_number(gpu, "memory_total"))
    return "/".join("-" if value is None else f"{value / 1e9:.1f}" for value in values) + " GB"
