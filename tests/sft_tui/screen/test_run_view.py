"""The screen of a run: what is marked, replaced and left out."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.texts import Lang
from sft_tui.log_lines import LogLine
from sft_tui.screen import run_view
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import (
    HEIGHTS,
    KILLED,
    SIZES,
    WIDTHS,
    exact,
    plain,
    run_of,
    run_screen,
    story,
)

ANYTHING = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)


NUMBERS = st.floats()


HOSTILE: st.SearchStrategy[events.Event] = st.one_of(
    st.builds(
        step, st.integers(1, 10**6), loss=NUMBERS, lr=NUMBERS, grad_norm=NUMBERS, steps_total=st.integers(0, 9),
        tokens=st.integers(0, 9), padded_tokens=st.integers(0, 9),
    ),
    st.builds(
        dataclasses.replace, st.just(EVAL), loss=NUMBERS, bleu=NUMBERS, step=st.integers(-5, 99), signature=ANYTHING
    ),
    st.builds(events.Sample, st.just(1), st.integers(0, 3), st.integers(0, 2), ANYTHING, ANYTHING, ANYTHING),
    st.builds(events.Gpu, st.integers(-9, 9), ANYTHING, st.dictionaries(ANYTHING, ANYTHING, max_size=3)),
    st.builds(
        events.Host, *[st.integers(-9, 10**12)] * 2, st.lists(st.integers(-9, 10**12)), NUMBERS, st.integers(0, 9)
    ),
    st.builds(events.Phase, ANYTHING, st.integers(-9, 99), st.integers(-9, 99)),
    st.builds(
        events.RunEnded, ANYTHING, st.integers(0, 3), st.just(KILLED.message),
        st.dictionaries(ANYTHING, ANYTHING, max_size=3), st.dictionaries(ANYTHING, NUMBERS, max_size=3),
    ),
    st.just(STARTED), st.just(PLAN),
    st.builds(dataclasses.replace, st.just(PLAN), steps_per_epoch=st.integers(1, 9), steps_total=st.integers(-9, 99)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    reported=st.lists(HOSTILE, max_size=12), width=WIDTHS, height=HEIGHTS, name=ANYTHING, alive=st.booleans(),
    log=st.lists(ANYTHING, max_size=6), selection=st.sampled_from([
        Selection(), Selection(log_scale=True), Selection(window=16, back=3), Selection(page="log", level="all"),
        Selection(page="machine"), Selection(page="samples"), Selection(metric="padding"),
        Selection(metric="lr", log_scale=True), Selection(search="[/x]"),
    ]),
)  # fmt: skip
def test_any_stream_is_shown_without_escapes(
    reported: list[events.Event], width: int, height: int, name: str, alive: bool, log: list[str], selection: Selection
) -> None:
    run, curves = run_of(iter(reported), alive=alive, name="run-" + name.replace("/", "_").replace("\0", "_"))
    lines = [LogLine("00:00:00", "note", safe(text)) for text in log]
    shown = run_view.draw(RunView(run, curves, lines, selection), width, height)
    exact(shown, width, height)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in plain(shown).replace("\n", ""))


def test_the_certificate_replaces_the_bars() -> None:
    shown = plain(run_view.draw(run_screen(ended=KILLED), 120, 39))
    assert "━" not in "".join(shown.splitlines()[:3])
    assert "f apply learn_rate = 2.5e-05 and resume" in shown


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_figure_is_left_out_at_the_usual_sizes(width: int, height: int, lang: Lang) -> None:
    run, curves = run_of(iter([STARTED, PLAN, step(9, loss=12.3456, grad_norm=1234.5, lr=1e-5), EVAL]))
    shown = plain(run_view.draw(RunView(run, curves, [], lang=lang), width, height - 1))
    assert {"en": "pad 10 %", "zh": "填充 10 %"}[lang] in shown
    assert "12.346" in shown


@pytest.mark.parametrize(("lang", "word"), [("en", "reading"), ("zh", "读取中")])
def test_a_log_still_being_read_shows_no_state(lang: Lang, word: str) -> None:
    run, curves = run_of(story(), alive=False)
    shown = plain(run_view.draw(RunView(run, curves, [], lang=lang, reading=0.5), 120, 39)).splitlines()[0]
    assert word in shown
    assert "starting" not in shown
    assert "✓" not in shown


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_test_shows_its_rows_and_scores_and_no_steps(width: int, height: int) -> None:
    begun = [dataclasses.replace(STARTED, job="test"), events.Phase("generating", 20, 64)]
    for reported in (begun, [*begun, dataclasses.replace(EVAL, epoch=0, step=0)]):
        run, curves = run_of(iter(reported))
        tested = dataclasses.replace(run, record=dataclasses.replace(run.record, job="test"))
        pages = ("all", "chart", "machine")
        views = [RunView(tested, curves, [], Selection(page=page)) for page in pages]
        shown = "".join(plain(run_view.draw(view, width, height - 1)) for view in views)
        assert "No step" not in shown
        assert "run ─" not in shown
        assert "epoch 0" not in shown
        assert "20/64" in shown
    assert "13359.73" in shown
    assert "no steps and no curve" not in shown
