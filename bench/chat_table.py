"""The one table of the chat benchmark, in Markdown: rates and peaks, ratios with their aims, replies, start."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.chat_found import Found

LEARNS = {"lora": "LoRA r 16", "all": "all weights"}
WHO = ("ours", "transformers")
PRECISIONS = ("fp32", "bf16")
NONE = "–"
DEFAULTS = "TRL, defaults"


@dataclass(frozen=True)
class Contestant:
    """A way to train: ours with a token budget, or TRL's with options of `bench.chat_peer`."""

    name: str
    learns: str
    budget: int = 0
    options: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its measurements."""
        return f"{LEARNS[self.learns]}, {self.name}"

    @property
    def exact(self) -> bool:
        """Whether weights that learn are fp32; adapters always are."""
        return self.learns == "lora" or "--bf16-weights" not in self.options


def fastest(found: Found, peers: list[Contestant]) -> Contestant | None:
    """The one with the most label tokens a second."""
    return max(peers, key=lambda one: found.median(one.key, "label_tokens"), default=None)


def leanest(found: Found, peers: list[Contestant]) -> Contestant | None:
    """The one with the smallest peak of memory."""
    return min(peers, key=lambda one: found.median(one.key, "memory"), default=None)


def finalists(found: Found, contestants: list[Contestant]) -> list[Contestant]:
    """Ours, TRL's defaults, and the fastest of its recipes in the first turn; the leanest's memory hardly varies."""
    chosen = {one for one in contestants if one.budget or one.name == DEFAULTS}
    for learns in LEARNS:
        side = Side.of(found, contestants, learns)
        chosen |= {one for one in (_fastest(side), _fastest_exact(side)) if one}
    return [one for one in contestants if one in chosen]


@dataclass(frozen=True)
class Side:
    """Those that learn the same, as far as they were measured."""

    found: Found
    learns: str
    measured: list[Contestant]
    first: Found  # by the first turn alone, in which all ran, the fastest and the leanest are chosen

    @classmethod
    def of(cls, found: Found, contestants: list[Contestant], learns: str) -> "Side":
        """Those of `contestants` that learn this."""
        measured = [one for one in contestants if one.learns == learns and one.key in found.taken]
        first = {name: {0: taken[0]} for name, taken in found.taken.items() if 0 in taken}
        return cls(found, learns, measured, Found(found.file, first))

    def rated(self, *, exact: bool) -> list[Contestant]:
        """TRL's, or with `exact` those of them whose weights are fp32."""
        peers = (one for one in self.measured if not one.budget and one.key in self.first.taken)
        return [one for one in peers if one.exact or not exact]

    def ours(self, budget: int) -> Contestant | None:
        """Ours with this budget."""
        return next((one for one in self.measured if one.budget == budget), None)


def table(found: Found, contestants: list[Contestant], caption: str) -> Iterator[str]:
    """The lines of the table, then what failed."""
    turns = max((len(taken) for taken in found.taken.values()), default=0)
    yield f"{caption}; medians (smallest to largest) of {turns} turns"
    yield ""
    yield f"| | {' | '.join(LEARNS.values())} | aim |"
    yield "|---|---|---|---|"
    for name in dict.fromkeys(one.name for one in contestants):
        cells = [_trained(found, f"{LEARNS[learns]}, {name}", turns) for learns in LEARNS]
        yield f"| {name}: label tokens/s, peak MB | {' | '.join(cells)} | |"
    for title, cell, aim in _ROWS:
        cells = [cell(Side.of(found, contestants, learns)) for learns in LEARNS]
        yield f"| {title} | {' | '.join(cells)} | {aim} |"
    for precision in PRECISIONS:
        yield f"| replies/s over `generate` in batches of 32, {precision} | {_replies(found, precision)} | | ≥ 3 |"
    rates = [rate for learns in LEARNS for rate in found.values(f"products, {learns}", "rate").values()]
    yield f"| matrix products in bf16, GFLOP/s | {_cell(rates, 0)} | | |"
    yield from _differences(found, contestants)
    for name, turn_and_why in found.failed.items():
        for turn, why in turn_and_why.items():
            yield f"\nfailed: {name}, turn {turn + 1}: {why.splitlines()[0]}"


def _trained(found: Found, key: str, turns: int) -> str:
    if key not in found.taken:
        return "failed" if key in found.failed else NONE
    times = len(found.taken[key])
    mark = "" if times == turns else f" ({times} of {turns} turns)"
    return f"{found.median(key, 'label_tokens'):,.0f}, {found.median(key, 'memory'):,.0f}{mark}"


Choice = Callable[[Side], Contestant | None]  # one of TRL's, with which ours is compared


def _over(what: str, budget: int, choice: Choice) -> Callable[[Side], str]:
    """The cell with a figure of ours with this budget over that of one of TRL's, which it names."""

    def cell(side: Side) -> str:
        one, other = side.ours(budget), choice(side)
        if one is None or other is None:
            return NONE
        ratios = side.found.over(what, one.key, other.key)
        return f"{_cell(ratios)}, {other.name.removeprefix('TRL, ')}" if ratios else NONE

    return cell


def _named(name: str) -> Choice:
    return lambda side: next((one for one in side.measured if one.name == name), None)


def _fastest(side: Side) -> Contestant | None:
    return fastest(side.first, side.rated(exact=False))


def _leanest(side: Side) -> Contestant | None:
    return leanest(side.first, side.rated(exact=False))


def _fastest_exact(side: Side) -> Contestant | None:
    return None if side.learns == "lora" else fastest(side.first, side.rated(exact=True))


def _leanest_exact(side: Side) -> Contestant | None:
    return None if side.learns == "lora" else leanest(side.first, side.rated(exact=True))


def _share(side: Side) -> str:
    one = side.ours(1024)
    rates = side.found.values(f"products, {side.learns}", "rate")
    flops = side.found.values(one.key, "flops") if one else {}
    return _cell([100 * flops[turn] / 1e9 / rates[turn] for turn in flops if turn in rates], 0, " %")


def _start(side: Side) -> str:
    one, bare = side.ours(1024), side.found.values("imports", "seconds")
    if one is None:
        return NONE
    first, step = (side.found.values(one.key, what) for what in ("first_step", "step"))
    return _cell([first[turn] / (bare[turn] + step[turn]) for turn in first if turn in bare])


# Title, cell of a side, aim for LoRA and for all weights.
_ROWS: list[tuple[str, Callable[[Side], str], str]] = [
    ("label tokens/s over TRL's defaults", _over("label_tokens", 1024, _named(DEFAULTS)), "≥ 5.5, ≥ 3.5"),
    ("the same over its defaults in fp32", _over("label_tokens", 1024, _named(f"{DEFAULTS} in fp32")), "≥ 5.5, ≥ 3.5"),
    ("label tokens/s over TRL's fastest", _over("label_tokens", 1024, _fastest), "≥ 1.7, ≥ 1.4"),
    ("the same over its fastest with fp32 weights", _over("label_tokens", 1024, _fastest_exact), ""),
    ("all tokens/s, prompts included, over TRL's fastest", _over("tokens", 1024, _fastest), ""),
    ("peak over TRL's defaults", _over("memory", 1024, _named(DEFAULTS)), "≤ 0.5, ≤ 0.6"),
    ("the same over its defaults in fp32", _over("memory", 1024, _named(f"{DEFAULTS} in fp32")), "≤ 0.5, ≤ 0.6"),
    ("peak over TRL's fastest", _over("memory", 1024, _fastest), "≤ 0.25, ≤ 0.65"),
    ("the same over its fastest with fp32 weights", _over("memory", 1024, _fastest_exact), ""),
    ("peak with 256 tokens over TRL's leanest", _over("memory", 256, _leanest), "≤ 0.75, ≤ 0.65"),
    ("the same over its leanest with fp32 weights", _over("memory", 256, _leanest_exact), ""),
    ("useful flops, share of the rate of bf16 products", _share, "≥ 55 %, ≥ 50 %"),
    ("start to first step over bare imports and that step", _start, "≤ 1.3, ≤ 1.3"),
]


def _replies(found: Found, precision: str) -> str:
    mine, theirs = (f"replies, {who}, {precision}" for who in WHO)
    both = set(found.taken.get(mine, {})) & set(found.taken.get(theirs, {}))
    if not both:
        return NONE
    pairs = [(found.taken[mine][turn]["replies"], found.taken[theirs][turn]["replies"]) for turn in sorted(both)]
    same = min(sum(a == b for a, b in zip(*pair, strict=True)) for pair in pairs)
    return f"{_cell(found.over('rate', mine, theirs))}, {same} of {len(pairs[0][0])} replies equal"


def _differences(found: Found, contestants: list[Contestant]) -> Iterator[str]:
    """A line if not all learned the same number of tokens."""
    learned: dict[int, list[str]] = {}
    for one in contestants:
        for count in set(found.values(one.key, "learned").values()):
            learned.setdefault(int(count), []).append(one.key)
    yield ""
    if len(learned) == 1:
        yield f"Each learned {next(iter(learned)):,} tokens."
    for count, names in learned.items() if len(learned) > 1 else ():
        yield f"{count:,} tokens were learned by: {'; '.join(names)}"


def _cell(values: list[float], digits: int = 2, unit: str = "") -> str:
    """The median, and the range if there are several values."""
    if not values:
        return NONE
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle}{unit}" if len(values) == 1 else f"{middle}{unit} ({low} to {high})"
