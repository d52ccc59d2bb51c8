"""The table of the GPU benchmark, from figures that were never measured."""

from bench.gpu_table import CHAT, CPU, OURS, RESUME, SIDES, T5, TESTS, Found, losses, names, rehearsed, table, trained

TITLES = 20  # lines of the table without its head


def found_whole() -> Found:
    found = Found()
    for side in SIDES:
        for rate, who in enumerate((OURS, side.default, *side.fast), 1):
            found.figures[trained(side.name, who)] = {"label_tokens": 1200.0 / rate, "memory": 1000.0 * rate}
        for how in (CPU, "fp32", "bf16"):
            found.figures[losses(side.name, how)] = {"losses": [2.0, 1.0 if how != "bf16" else 1.01]}
        found.figures[rehearsed(side.name)] = {"memory": 1100.0}
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
    assert row(lines, TESTS)[0] == "none exist"


def test_a_missing_figure_has_its_reason_in_every_line_of_it() -> None:
    found = found_whole()
    del found.figures[trained(T5, OURS)]
    found.missing[trained(T5, OURS)] = "failed: a | b\nc"
    lines = list(table(found, "one GPU"))
    assert len(lines) == 4 + TITLES
    assert sum("failed: a / b c" in line for line in lines) == 4
    nothing = Found(missing=dict.fromkeys(names(), "not begun"))
    assert sum("not begun" in line for line in table(nothing, "one GPU")) == TITLES
