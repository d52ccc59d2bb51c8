"""The table of the GPU benchmark, from figures that were never measured."""

from pathlib import Path

from bench.gpu import Bench, jobs
from bench.gpu_table import (
    BF16_PADDED,
    CHAT,
    CPU,
    OURS,
    OURS_PADDED,
    RESUME,
    SIDES,
    T5,
    TESTS,
    Found,
    losses,
    names,
    rehearsed,
    table,
    trained,
)

TITLES = 23  # lines of the table without its head


def found_whole() -> Found:
    found = Found()
    for side in SIDES:
        for rate, who in enumerate((OURS, side.default, *side.fast), 1):
            found.figures[trained(side.name, who)] = {"label_tokens": 1200.0 / rate, "memory": 1000.0 * rate}
        for how in (CPU, *side.precisions):
            found.figures[losses(side.name, how)] = {"losses": [2.0, 1.0 if how in (CPU, "fp32") else 1.01]}
        found.figures[rehearsed(side.name)] = {"memory": 1100.0}
    found.figures[trained(CHAT, OURS)]["rows"] = "rows end to end"
    found.figures[trained(CHAT, OURS_PADDED)] = {"label_tokens": 800.0, "memory": 1500.0}
    found.figures.update({RESUME: {"result": "equal"}, TESTS: {"result": "none exist"}})
    return found


def row(lines: list[str], title: str) -> list[str]:
    line = next(line for line in lines if line.startswith(f"| {title}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_figures_stand_next_to_their_aims() -> None:
    lines = list(table(found_whole(), "one GPU"))
    assert len(lines) == 4 + TITLES
    assert row(lines, f"{T5}: {OURS}") == ["1,200 label tokens/s", "1,000", ""]
    assert row(lines, f"{T5}: ours over {SIDES[0].default}") == ["2.00 × the label tokens/s", "0.50 ×", "≥ 2, ≤ 0.6"]
    assert row(lines, f"{T5}: ours over {SIDES[0].fast[0]}")[-1] == "≥ 1.2, ≤ 0.6"
    assert row(lines, f"{CHAT}: ours over TRL, default")[-1] == "≥ 1.5, ≤ 0.6"
    assert (
        row(lines, f"{T5}: losses of ten steps in bf16")[0] == "at most 1.0e-02 apart; the last are 1.0100 and 1.0000"
    )
    assert row(lines, f"{T5}: peak predicted") == ["1.10", "1,100, 1,000", ""]
    assert row(lines, f"{CHAT}: {OURS}") == ["1,200 label tokens/s; rows end to end", "1,000", ""]
    assert row(lines, f"{CHAT}: {OURS_PADDED}") == ["800 label tokens/s", "1,500", ""]
    assert row(lines, f"{CHAT}: losses of ten steps in {BF16_PADDED}")[0].startswith("at most 1.0e-02 apart")
    assert row(lines, TESTS)[0] == "none exist"


def test_a_figure_of_an_unexpected_kind_costs_only_its_own_line() -> None:
    found = found_whole()
    found.figures[trained(T5, SIDES[0].default)] = {"label_tokens": 0.0, "memory": 0.0}
    found.figures[losses(T5, CPU)] = {"losses": [0.0, None]}
    lines = list(table(found, "one GPU"))
    assert len(lines) == 4 + TITLES
    assert sum("failed: " in line for line in lines) == 3
    assert row(lines, f"{CHAT}: {OURS}")[0].startswith("1,200")


def test_what_nothing_else_can_show_is_measured_first() -> None:
    found = names()
    assert len(found) == len(set(found))
    assert found[:5] == [trained(side, who) for side, who in ((T5, OURS), (T5, SIDES[0].default), (CHAT, OURS))] + [
        trained(CHAT, SIDES[1].default),
        TESTS,
    ]
    assert set(found) == set(jobs(Bench(Path(), "cpu", Path(), 64, 0.0)))


def test_a_missing_figure_has_its_reason_in_every_line_of_it() -> None:
    found = found_whole()
    del found.figures[trained(T5, OURS)]
    found.missing[trained(T5, OURS)] = "failed: a | b\nc"
    lines = list(table(found, "one GPU"))
    assert len(lines) == 4 + TITLES
    assert sum("failed: a / b c" in line for line in lines) == 4
    nothing = Found(missing=dict.fromkeys(names(), "not begun"))
    assert sum("not begun" in line for line in table(nothing, "one GPU")) == TITLES
