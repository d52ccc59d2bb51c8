"""The table of the chat benchmark, from figures that were never measured."""

from pathlib import Path

from bench.chat import CONTESTANTS
from bench.chat_found import Figures, Found
from bench.chat_table import LEARNS, PRECISIONS, WHO, finalists, table


def trained(rate: float, memory: float, learned: int = 4848) -> Figures:
    one = {"label_tokens": rate, "tokens": 3 * rate, "memory": memory, "learned": learned}
    return {**one, "first_step": 9.0, "step": 2.0, "flops": 200e9}


def found_with(turns: int) -> Found:
    found = Found(Path("unused"))
    for number, one in enumerate(CONTESTANTS):
        rate = 400.0 if one.budget else 100.0 + number
        found.taken[one.key] = {turn: trained(rate, 1000 if one.budget else 4000 - number) for turn in range(turns)}
    same: dict[str, Figures] = {f"products, {learns}": {"rate": 400.0} for learns in LEARNS}
    same["imports"] = {"seconds": 7.0}
    for precision in PRECISIONS:
        same[f"replies, {WHO[0]}, {precision}"] = {"rate": 6.0, "replies": ["a", "b"]}
        same[f"replies, {WHO[1]}, {precision}"] = {"rate": 2.0, "replies": ["a", "c"]}
    for name, figures in same.items():
        found.taken[name] = dict.fromkeys(range(turns), figures)
    return found


def row(lines: list[str], title: str) -> list[str]:
    line = next(line for line in lines if line.startswith(f"| {title}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_ratios_stand_next_to_their_aims() -> None:
    lines = list(table(found_with(2), CONTESTANTS, "two cores"))
    assert row(lines, "ours, 256 tokens")[:2] == ["400, 1,000", "400, 1,000"]
    lora, weights, aims = row(lines, "label tokens/s over TRL's defaults")
    assert lora == "3.92 (3.92 to 3.92), defaults"
    assert (weights.split(", ")[-1], aims) == ("defaults", "≥ 5.5, ≥ 3.5")
    assert row(lines, "peak with 256 tokens over TRL's leanest")[1].endswith("lean by 1, fp32 weights")
    assert row(lines, "useful flops") == ["50 % (50 to 50)", "50 % (50 to 50)", "≥ 55 %, ≥ 50 %"]
    assert row(lines, "start to first step")[0] == "1.00 (1.00 to 1.00)"
    assert row(lines, "replies/s over")[0] == "3.00 (3.00 to 3.00), 1 of 2 replies equal"
    assert lines[-1] == "Each learned 4,848 tokens."


def test_a_table_without_some_of_its_figures_says_which() -> None:
    found = found_with(1)
    ours, default, fast = CONTESTANTS[0].key, CONTESTANTS[2].key, CONTESTANTS[5].key
    del found.taken[ours]
    found.failed[ours] = {0: "RuntimeError: ended with 1\nlog"}
    found.taken[fast][0]["learned"] = 4800
    del found.taken["imports"], found.taken["replies, ours, fp32"]
    lines = list(table(found, CONTESTANTS, "two cores"))
    assert row(lines, "ours, 1,024 tokens")[0] == "failed"
    assert row(lines, "label tokens/s over TRL's defaults")[0] == "–"
    assert row(lines, "replies/s over")[0] == "–"
    assert lines[-1] == f"\nfailed: {ours}, turn 1: RuntimeError: ended with 1"
    assert f"4,800 tokens were learned by: {fast}" in lines
    assert list(table(Found(Path("unused")), CONTESTANTS, "two cores"))
    assert default not in found.failed


def test_after_the_first_turn_the_fastest_recipes_run_again() -> None:
    found = found_with(1)
    weights = [one for one in CONTESTANTS if one.learns == "all" and not one.budget]
    fast = {"TRL, fast by 4, bf16 weights": 300.0, "TRL, fast by 4, fp32 weights": 200.0}
    for one in weights:
        if one.name in fast:
            found.taken[one.key][0].update(label_tokens=fast[one.name], memory=9000.0)
    running = [one.name for one in finalists(found, CONTESTANTS) if one in weights]
    assert running == ["TRL, defaults", *fast]
    assert row(list(table(found, CONTESTANTS, "two cores")), "peak with 256 tokens over")[1].endswith("fp32 weights")
