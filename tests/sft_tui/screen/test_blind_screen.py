"""The screen of a blind comparison, with processes that reply by a rule."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from textual.pilot import Pilot

from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.contract.facts import PromptFacts
from engine.contract.requests import PromptsRequest
from engine.contract.rundir import RunDir
from sft_tui import conversation, judging
from sft_tui.screen import blind_screen, chat_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.blind_screen import BlindScreen
from sft_tui.screen.chat_screen import ChatScreen
from tests.sft_tui.fake_replies import CHILD
from tests.sft_tui.screen.conftest import plain, until, write_run

Steps = Callable[[Pilot[int], BlindScreen], Awaitable[None]]
Played = Callable[..., None]


@pytest.fixture
def prompts() -> list[str]:
    """The held-out prompts."""
    return ["one", "two", "three"]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[str]) -> Played:
    """Plays steps on the comparison of a run's models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conversation, "module_command", lambda _module: [sys.executable, "-c", CHILD])
    events: Sequence[Event] = ()
    write_run(tmp_path / "logs", "mine-3", *events)

    def answered(asked: PromptsRequest, _kind: object) -> PromptFacts:
        return PromptFacts(tuple(prompts), 9, 4, 0, compared=asked.count == judging.PROMPTS)

    monkeypatch.setattr(blind_screen, "ask", answered)
    monkeypatch.setattr(blind_screen, "LEAST_SECONDS", 0.0)

    def play(steps: Steps, run: str = "mine-3") -> None:
        async def go() -> None:
            app = SftTuiApp(Options(Path("logs"), chat=("base", "tuned"), run=run))
            async with app.run_test(size=(120, 40)) as pilot:
                chat = app.screen
                assert isinstance(chat, ChatScreen)
                await until(pilot, lambda: {one.state for one in chat.states} == {"ready"})
                await pilot.press("ctrl+b")
                await until(pilot, lambda: isinstance(app.screen, BlindScreen))
                screen = app.screen
                assert isinstance(screen, BlindScreen)
                await until(pilot, lambda: screen.comparison is not None or screen.fault or screen.question)
                await steps(pilot, screen)

        asyncio.run(asyncio.wait_for(go(), 60))

    return play


def shown(screen: BlindScreen) -> str:
    """The whole screen as text."""
    return plain(screen.lines(120, 40))


async def replies(pilot: Pilot[int], screen: BlindScreen) -> None:
    """Waits for the replies to the prompt that is shown."""
    await until(pilot, lambda: screen._trial is not None and screen._trial.answered)


def test_all_prompts_are_judged_and_the_tally_is_kept(judged: Played) -> None:
    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        for key in ("1", "2", "equals_sign"):
            await replies(pilot, screen)
            assert "tuned" not in shown(screen)
            await pilot.press(key)
        assert "base preferred: 1" in shown(screen) or "preferred: 2" in shown(screen)
        found = judging.summary(RunDir(Path("logs/mine-3")).blind)
        assert found is not None
        assert (found.names, found.judged, found.equal) == (("base", "tuned"), 3, 1)
        assert "without 4 that the training file has too" in " ".join(shown(screen).split())

    judged(steps)


def test_a_comparison_continues_where_it_was_left(judged: Played) -> None:
    async def first(pilot: Pilot[int], screen: BlindScreen) -> None:
        await replies(pilot, screen)
        await pilot.press("1")
        await replies(pilot, screen)
        await pilot.press("2", "backspace")
        assert screen.place == 1
        assert "2 of 3" in shown(screen)
        await pilot.press("1")
        await pilot.press("escape")
        await until(pilot, lambda: not screen.in_front)

    async def second(_pilot: Pilot[int], screen: BlindScreen) -> None:
        assert screen.place == 2
        found = judging.summary(RunDir(Path("logs/mine-3")).blind)
        assert found is not None
        assert (found.judged, found.trials) == (2, 3)

    judged(first)
    judged(second)


@pytest.mark.parametrize("key", ["n", "escape", "y"])
def test_judgements_of_other_models_are_lost_only_if_a_person_says_so(judged: Played, key: str) -> None:
    kept = RunDir(Path("logs/mine-3")).blind
    trial = replace(judging.trials_of(["x"], 0)[0], replies=("1", "2"), preferred="first")
    judging.write(kept, judging.Comparison(("base", "older"), (trial,)))

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        assert "1 judgement of base and older" in " ".join(shown(screen).split())
        await pilot.press(key)
        if key == "y":
            await until(pilot, lambda: screen.comparison is not None)
            await replies(pilot, screen)
        else:
            await until(pilot, lambda: not screen.is_open)
        found = judging.read(kept)
        assert found is not None
        assert found.names == ("base", "tuned" if key == "y" else "older")

    judged(steps)


def test_other_prompts_replace_judgements_only_if_a_person_says_so(judged: Played) -> None:
    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        await replies(pilot, screen)
        await pilot.press("1")
        screen._chosen("other.parquet")
        await until(pilot, lambda: screen.question)
        await pilot.press("n")
        await until(pilot, lambda: screen.comparison is not None)
        assert screen.place == 1

    judged(steps)


def test_a_damaged_file_begins_again(judged: Played) -> None:
    RunDir(Path("logs/mine-3")).blind.write_text('{"names": 3')

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        assert screen.place == 0
        assert "1 of 3" in shown(screen)
        assert "blind.json cannot be read" in shown(screen)
        await pilot.press("k")
        assert "cannot be read" not in shown(screen)

    judged(steps)


def test_a_comparison_without_a_run_says_that_it_is_not_kept(
    judged: Played, monkeypatch: pytest.MonkeyPatch, prompts: list[str]
) -> None:
    by = blind_screen.Prompts(tuple(prompts), ("some.parquet",), 0, compared=False)
    monkeypatch.setattr(blind_screen, "held_out", lambda *_: by)

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        assert "not kept" in shown(screen)
        await replies(pilot, screen)
        await pilot.press("1")
        assert screen.place == 1

    judged(steps, run="")
    assert not list(Path("logs").rglob("blind.json"))


def test_prompts_that_come_after_the_screen_was_left_are_not_asked(
    judged: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, known, read = threading.Event(), threading.Event(), threading.Event()

    def slow(*_: object) -> blind_screen.Prompts:
        begun.set()
        known.wait(30)
        read.set()
        return blind_screen.Prompts(("late",), ("some.parquet",), 0, compared=True)

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        monkeypatch.setattr(blind_screen, "held_out", slow)
        screen._chosen("some.parquet")
        await until(pilot, begun.is_set)  # a thread that was cancelled before it began would read nothing
        await pilot.press("escape")
        await until(pilot, lambda: not screen.is_open and screen._left)
        known.set()
        await until(pilot, read.is_set)
        await until(pilot, lambda: not any(worker.group == "blind" for worker in pilot.app.workers))
        assert screen.comparison is None
        assert not screen._asked

    judged(steps)


def config(folder: Path, *files: str) -> RunConfig:
    """Settings with these held-out files, which exist."""
    for name in files:
        (folder / name).write_bytes(b"")
    named = {name: str(folder / f"{name}.parquet") for name in ("test", "valid")}
    return RunConfig(train_file="t.parquet", test_file=named["test"], validation_file=named["valid"])


@pytest.mark.parametrize(
    ("of_test", "files", "trained"), [(5, ["test", "valid"], 3), (20, ["test"], 1), (0, ["test", "valid"], 3)]
)
def test_prompts_that_the_test_file_lacks_are_from_the_validation_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_test: int, files: list[str], trained: int
) -> None:
    def facts(_config: RunConfig, setting: str, _seed: int) -> PromptFacts:
        if setting == "test_file":
            return PromptFacts(tuple(f"prompt {at}" for at in range(of_test)), 40, 1, 0, compared=True)
        return PromptFacts(tuple(f"prompt  {at}" for at in range(20)), 40, 2, 0, compared=True)

    monkeypatch.setattr(blind_screen, "_facts", facts)
    found = blind_screen.held_out(config(tmp_path, "test.parquet", "valid.parquet"), 0)
    assert [" ".join(prompt.split()) for prompt in found.prompts] == [f"prompt {at}" for at in range(20)]
    assert [Path(file).stem for file in found.files] == files
    assert (found.trained, found.compared) == (trained, True)


def test_only_files_that_exist_are_asked_for_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def facts(_config: RunConfig, setting: str, _seed: int) -> PromptFacts:
        asked.append(setting)
        return PromptFacts(("one",), 1, 0, 0)

    monkeypatch.setattr(blind_screen, "_facts", facts)
    blind_screen.held_out(config(tmp_path, "valid.parquet"), 0)
    assert asked == ["validation_file"]
    one = replace(config(tmp_path, "valid.parquet"), test_file=str(tmp_path / "valid.parquet"))
    assert blind_screen.held_out(one, 0).files == (one.test_file,)  # which is both


def test_no_judgement_before_the_replies_are_there(judged: Played, prompts: list[str]) -> None:
    prompts[:] = ["slow"]

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        await pilot.press("1")
        assert "not there yet" in shown(screen)
        assert screen.place == 0
        await pilot.press("escape")
        chat = pilot.app.screen
        assert isinstance(chat, ChatScreen)
        await until(pilot, lambda: {one.state for one in chat.states} == {"ready"})
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: chat.states[0].turns and not chat.busy)
        assert chat.states[0].turns[0].reply == "0::hi"

    judged(steps)


def test_a_process_that_dies_is_reported_and_the_comparison_continued(judged: Played, prompts: list[str]) -> None:
    prompts[:] = ["slow"]

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        psutil.Process(screen._models[1].pid).kill()
        await until(pilot, lambda: screen.fault)
        assert "SIGKILL" in shown(screen)
        await pilot.press("r")
        await until(pilot, lambda: screen._models[1].state.state == "replying")
        assert not screen.fault

    judged(steps)


def test_a_file_without_new_prompts_is_refused(judged: Played, prompts: list[str]) -> None:
    prompts.clear()

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        assert "no prompt to compare by" in shown(screen)
        prompts[:] = ["other"]
        screen._chosen("other.parquet")
        await until(pilot, lambda: screen.comparison is not None)
        assert screen.comparison is not None
        assert screen.comparison.trials[0].prompt == "other"

    judged(steps)


@pytest.mark.parametrize("far", ["end", "pagedown"])
def test_replies_are_scrolled_no_further_than_their_end(judged: Played, far: str) -> None:
    long = "\n".join(f"line {number}." for number in range(100))

    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        await replies(pilot, screen)
        assert screen.comparison is not None
        screen._change(0, replace(screen.comparison.trials[0], replies=(long, "short")))
        await pilot.press(*[far] * 15)
        assert "line 99." in shown(screen)
        assert "line 71." in shown(screen)
        await pilot.press("up")
        assert "line 99." not in shown(screen)
        await pilot.press("home")
        assert "line 0." in shown(screen)

    judged(steps)


def test_a_comparison_continues_in_another_language(judged: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"en": "best of run", "zh": "运行的最佳模型"}
    monkeypatch.setattr(chat_screen, "model_name", lambda folder, _lang: f"{folder} {names['en']}")
    monkeypatch.setattr(blind_screen, "model_name", lambda folder, lang: f"{folder} {names[lang]}")
    kept = RunDir(Path("logs/mine-3")).blind

    async def first(pilot: Pilot[int], screen: BlindScreen) -> None:
        await replies(pilot, screen)
        await pilot.press("1")
        await until(pilot, lambda: judging.summary(kept) is not None)

    async def second(_pilot: Pilot[int], screen: BlindScreen) -> None:
        assert screen.place == 1

    async def other(_pilot: Pilot[int], screen: BlindScreen) -> None:
        assert screen.place == 0

    judged(first)
    monkeypatch.setattr(chat_screen, "model_name", lambda folder, _lang: f"{folder} {names['zh']}")
    judged(second)
    monkeypatch.setattr(blind_screen, "model_name", lambda folder, lang: f"{folder} other {names[lang]}")
    judged(other)


def test_a_key_that_is_pressed_twice_judges_no_prompt_unseen(judged: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(pilot: Pilot[int], screen: BlindScreen) -> None:
        await until(
            pilot, lambda: screen.comparison is not None and all(one.answered for one in screen.comparison.trials)
        )
        await pilot.press("1")
        assert screen.place == 1
        monkeypatch.setattr(blind_screen, "LEAST_SECONDS", 60.0)
        await pilot.press("1", "2")
        assert screen.place == 1
        monkeypatch.setattr(blind_screen, "LEAST_SECONDS", 0.0)
        await pilot.press("2")
        assert screen.place == 2

    judged(steps)
