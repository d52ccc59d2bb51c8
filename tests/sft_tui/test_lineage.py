"""Which run began from which, as records say."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine.contract.outputdir import OutputDir
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.lineage import MODEL, SETTINGS, TESTED, Link, described, links, tree
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from tests.sft_tui.conftest import EVAL


def run(name: str, at: str, *, job: str = "train", best: int = 0, base: str = "", **more: Any) -> Run:
    config = {"output_dir": f"model_save/{more.pop('output', name)}", "pretrained_model": base}
    evaluated = dataclasses.replace(EVAL, step=best) if best else None
    state = RunState(began_at=f"2026-01-{at}", best=evaluated, attempt=more.pop("attempt", 1))
    record = RunRecord(name, "sft-small", job, config, **more)
    return Run(RunDir(Path("logs") / name), record, state, alive=False)


BASE = run("smol-1", "01", best=313)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("place", ["model_save/smol-1/best", "./model_save/smol-1/best/", "model_save/smol-1"])
def test_a_run_from_the_best_model_of_another_names_it(place: str) -> None:
    linked = links([run("smol-2", "02", base=place), BASE])
    assert linked == {"smol-2": [Link("smol-1", MODEL, 313)]}
    assert described(run("smol-2", "02"), linked, "en") == "from smol-1 (best of step 313)"
    assert described(BASE, linked, "en") == ""


def test_an_absolute_path_is_the_same_folder() -> None:
    place = str(Path("model_save/smol-1/best").absolute())
    assert "smol-2" in links([run("smol-2", "02", base=place), BASE])


def test_of_runs_in_one_folder_the_newest_before_it_is_meant() -> None:
    first, second = (run(f"pre-{n}", f"0{n}", output="pre", best=n) for n in (1, 2))
    later = run("pre-9", "09", output="pre", best=9)
    child = run("sft", "05", base="model_save/pre/best")
    assert links([later, child, second, first])["sft"] == [Link("pre-2", MODEL, 2)]


def test_a_model_that_was_moved_aside_is_still_found() -> None:
    moved = dataclasses.replace(BASE, output=OutputDir(Path("model_save/smol-1/earlier/smol-1")))
    child = run("smol-2", "02", base="model_save/smol-1/earlier/smol-1/best")
    assert links([child, moved])["smol-2"] == [Link("smol-1", MODEL, 313)]


def test_a_test_names_the_run_it_evaluates() -> None:
    found = [run("test-1", "02", job="test", output="smol-1"), BASE]
    assert links(found) == {"test-1": [Link("smol-1", TESTED, 313)]}
    assert described(found[0], links(found), "zh") == "测试 smol-1（第 313 步的最佳模型）"


def test_settings_of_another_run_and_resumes_are_named() -> None:
    child = run("smol-2", "02", based_on="smol-1", attempt=3)
    linked = links([child, BASE])
    assert linked == {"smol-2": [Link("smol-1", SETTINGS)]}
    assert described(child, linked, "en") == "settings of smol-1 · resumed 2 times"


def test_a_model_from_elsewhere_is_no_link() -> None:
    assert links([run("smol-2", "02", base="models/foreign"), BASE]) == {}
    assert links([run("smol-1", "02", base="model_save/smol-1/best")]) == {}  # of itself: another run's is unknown


def test_runs_stand_below_those_they_began_from() -> None:
    found = [
        run("other", "09"),
        run("c", "03", base="model_save/b/best"),
        run("b", "02", base="model_save/a/best"),
        run("a", "01"),
    ]
    linked = links(found)
    nodes = tree(found, linked)
    assert [(node.run.name, node.depth) for node in nodes] == [("other", 0), ("a", 0), ("b", 1), ("c", 2)]
    assert [node.run.name for node in tree(found, linked, ["c"])] == ["a", "b", "c"]
    assert nodes[1].link is None
    assert nodes[3].link == Link("b", MODEL, 0)


def test_a_circle_of_settings_is_cut() -> None:
    found = [run("a", "01", based_on="b"), run("b", "02", based_on="a")]
    assert sorted(node.run.name for node in tree(found, links(found))) == ["a", "b"]


def test_names_of_runs_are_harmless() -> None:
    child = run("smol-2", "02", based_on="x\x1b[31m")
    assert "\x1b" not in described(child, links([child]), "en")
