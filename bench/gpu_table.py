"""The one table of the GPU benchmark, in Markdown: rates and peaks with their aims, losses, rehearsals, resume, tests.

Whatever is missing has its reason in its line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Figures = dict[str, Any]

T5, CHAT = "T5, frozen encoder", "chat model, LoRA r 16"
OURS, CPU = "ours, bf16", "fp32 on the CPU"
PRECISIONS = ("fp32", "bf16")
OURS_PADDED, BF16_PADDED = "ours, bf16, padded rows", "bf16, padded rows"  # in place of rows end to end


@dataclass(frozen=True)
class Side:
    """A model, and those that train it: ours, and a standard trainer with its defaults and its fast recipes."""

    name: str
    default: str
    fast: tuple[str, ...]
    aim: str  # label tokens a second over the defaults
    aim_fast: str = ""  # and over the fastest
    end_to_end: bool = False  # whether ours lays rows end to end, where the GPU can

    @property
    def trainings(self) -> tuple[str, ...]:
        """All who train it."""
        return (OURS, *([OURS_PADDED] if self.end_to_end else []), self.default, *self.fast)

    @property
    def precisions(self) -> tuple[str, ...]:
        """How ours computes the ten steps that are compared with fp32 on the CPU."""
        return (*PRECISIONS, *([BF16_PADDED] if self.end_to_end else []))


SIDES = (
    Side(
        T5,
        "Seq2SeqTrainer, default",
        ("Seq2SeqTrainer, bf16, by 8, by length", "Seq2SeqTrainer, bf16, by 16, by length"),
        "≥ 2",
        "≥ 1.2",
    ),
    Side(
        CHAT,
        "TRL, default",
        ("TRL, by 16, by length", "TRL, by 16, by length, bf16 weights", "TRL, packed, bf16 weights"),
        "≥ 1.5",
        end_to_end=True,
    ),
)
AIM_MEMORY = "≤ 0.6"


@dataclass(frozen=True)
class Found:
    """The figures by the name of their measurement, and why the others are missing."""

    figures: dict[str, Figures] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def why(self, *names: str) -> str:
        """Why the first of these that is missing is missing; empty if none is."""
        absent = [name for name in names if name not in self.figures]
        return next((self.missing.get(name) or f"no figures of: {name}" for name in absent), "")


def trained(side: str, who: str) -> str:
    """The name of a training that is measured."""
    return f"{side}: {who}"


def losses(side: str, how: str) -> str:
    """The name of ten steps."""
    return f"ten steps, {side}: {how}"


def rehearsed(side: str) -> str:
    """The name of a rehearsal."""
    return f"rehearsal, {side}"


RESUME, TESTS = "resume after a kill", "tests marked gpu"


def names() -> list[str]:
    """All measurements, in the order in which they are taken: what nothing else can show is first."""
    found = [trained(side.name, who) for side in SIDES for who in (OURS, side.default)]
    found += [TESTS, *(losses(side.name, how) for side in SIDES for how in (CPU, *reversed(side.precisions)))]
    found += [RESUME, *(rehearsed(side.name) for side in SIDES)]
    return list(dict.fromkeys([*found, *(trained(side.name, who) for side in SIDES for who in side.trainings)]))


def table(found: Found, caption: str) -> Iterator[str]:
    """The lines of the table."""
    yield from (caption, "", "| | result | peak MB | aims |", "|---|---|---|---|")
    for line in _lines(found):
        try:
            yield line()
        except (LookupError, ArithmeticError, TypeError, ValueError) as error:  # the other lines must not be lost
            yield _line("a line of the table", f"failed: {error!r}")


def _lines(found: Found) -> Iterator[Callable[[], str]]:
    for side in SIDES:
        for who in side.trainings:
            yield partial(_trained, found, trained(side.name, who))
        yield partial(_over, found, side, side.default, f"{side.aim}, {AIM_MEMORY}")
        best = max(side.fast, key=lambda who: _rate(found, trained(side.name, who)))
        yield partial(_over, found, side, best, ", ".join(filter(None, (side.aim_fast, AIM_MEMORY))))
    for side in SIDES:
        for precision in side.precisions:
            yield partial(_losses, found, side.name, precision)
    for side in SIDES:
        yield partial(_rehearsed, found, side.name)
    for name in (RESUME, TESTS):
        yield partial(_reported, found, name)


def _reported(found: Found, name: str) -> str:
    return _line(name, found.why(name) or found.figures[name]["result"])


def _line(title: str, result: str, memory: str = "", aims: str = "") -> str:
    cells = (" ".join(cell.replace("|", "/").split()) for cell in (title, result, memory, aims))
    return f"| {' | '.join(cells)} |"


def _rate(found: Found, name: str) -> float:
    return float(found.figures.get(name, {}).get("label_tokens", 0))


def _trained(found: Found, name: str) -> str:
    if why := found.why(name):
        return _line(name, why)
    speed = f"{_rate(found, name):,.0f} label tokens/s"
    shown = "; ".join(filter(None, (speed, found.figures[name].get("rows", ""))))
    return _line(name, shown, f"{found.figures[name]['memory']:,.0f}")


def _over(found: Found, side: Side, who: str, aims: str) -> str:
    mine, theirs = trained(side.name, OURS), trained(side.name, who)
    title = f"{side.name}: ours over {who}"
    if who != side.default and not any(trained(side.name, fast) in found.figures for fast in side.fast):
        title = f"{side.name}: ours over the fastest"
    if why := found.why(mine, theirs):
        return _line(title, why, aims=aims)
    ours, other = found.figures[mine], found.figures[theirs]
    speed = f"{ours['label_tokens'] / other['label_tokens']:.2f} × the label tokens/s"
    return _line(title, speed, f"{ours['memory'] / other['memory']:.2f} ×", aims)


def apart(ones: list[float], others: list[float]) -> float:
    """The largest relative difference of two series of losses; raises ValueError if their lengths differ."""
    return max(abs(one / other - 1) for one, other in zip(ones, others, strict=True))


def _losses(found: Found, side: str, precision: str) -> str:
    mine, reference = losses(side, precision), losses(side, CPU)
    title = f"{side}: losses of ten steps in {precision}, against {CPU}"
    if why := found.why(reference, mine):
        return _line(title, why)
    ones, others = found.figures[mine]["losses"], found.figures[reference]["losses"]
    if len(ones) != len(others):
        return _line(title, f"{len(ones)} and {len(others)} losses")
    ends = f"the last are {ones[-1]:.4f} and {others[-1]:.4f}"
    return _line(title, f"at most {apart(ones, others):.1e} apart; {ends}")


def _rehearsed(found: Found, side: str) -> str:
    mine, run = rehearsed(side), trained(side, OURS)
    title = f"{side}: peak predicted by the rehearsal, over the run's"
    if why := found.why(mine, run):
        return _line(title, why)
    predicted, taken = found.figures[mine]["memory"], found.figures[run]["memory"]
    return _line(title, f"{predicted / taken:.2f}", f"{predicted:,.0f}, {taken:,.0f}")
