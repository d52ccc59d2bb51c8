"""The launch screen with its keys, without a terminal and without a process: what is fixed, edited, queued, ended."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot

from engine.contract.config import FIELDS
from engine.contract.durable import write_json
from engine.contract.facts import DataFacts
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.texts import Lang
from sft_tui import data_import, demo, starting
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Action, Command, Import, Open, Resume, Set, Start, System
from sft_tui.screen import app, launch_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.bottom import Question
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.some_facts import step_facts

Steps = Callable[[Pilot[int], LaunchScreen], Awaitable[None]]
HOSTILE = 'two && "x".parquet\n$(touch pwned)'
SOUND = Report([Finding("ok", "plan", "time", {"per_epoch": 5, "total": 10, "batch": 8, "peak": 1.0})])


def report(*actions: Action) -> Report:
    args = {"path": "x", "cut_rows": 1, "cut_tokens": 2, "rows": 3, "limit": 4, "share": "5 %", "longest": 6}
    return Report([Finding("error", "rows_truncated", "train_file", args, actions)])


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays steps on the screen, with a report in place of the pre-flight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch_screen, "SETTLED_SECONDS", 0.0)

    def play(found: Report | Callable[..., Report], steps: Steps, lang: Lang = "en") -> None:
        monkeypatch.setattr(launch_screen, "check", found if callable(found) else lambda *_: found)

        async def go() -> None:
            app = SftTuiApp(Options(Path("logs"), lang))
            async with app.run_test(size=(120, 40)) as pilot:
                screen = app.screen
                assert isinstance(screen, LaunchScreen)
                screen._choose("sft-small")
                if not callable(found):
                    await until(pilot, lambda: screen.state.report is found)
                await steps(pilot, screen)

        asyncio.run(asyncio.wait_for(go(), 60))

    return play


async def until(pilot: Pilot[int], holds: Callable[[], object]) -> None:
    while not holds():
        await pilot.pause(0.01)


def shown(screen: LaunchScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


class FakeCommand:
    """Stands for a command behind the screen, which ends when the test says so."""

    ran: ClassVar[list["FakeCommand"]] = []

    def __init__(self, arguments: tuple[str, ...], _lang: Lang, done: Callable[[int, str], None]) -> None:
        self.arguments, self.done, self.ended = tuple(arguments), done, False
        FakeCommand.ran.append(self)

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[FakeCommand]:
    """The commands that are run behind the screen."""
    FakeCommand.ran = []
    for module in (launch_screen, app):
        monkeypatch.setattr(module, "Background", FakeCommand)
    return FakeCommand.ran


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was planned and shown as a run, in place of being started."""
    found: list[Any] = []
    monkeypatch.setattr(starting, "plan_run", lambda name, values, **how: (name, dict(values), how))
    monkeypatch.setattr(SftTuiApp, "start_run", lambda _app, record: found.append(record))
    monkeypatch.setattr(SftTuiApp, "open_run", lambda _app, name: found.append(name))
    return found


def test_a_setting_is_fixed_whatever_is_in_a_name(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert "Set train_file data/sft_train_small_train.parquet → two &&" in shown(screen)
        await pilot.press("y")
        assert screen.state.values == {"epochs": 5, "train_file": HOSTILE}

    played(report(Set("sft-small", {"epochs": 5}, {"train_file": HOSTILE})), steps)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("epochz = 3")], ids=["gone", "spoilt"])
def test_a_preset_that_becomes_unreadable_leaves_the_list(
    spoil: Callable[[Path], object], played: Callable[..., None]
) -> None:
    file = Path("presets/shop.toml")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        file.parent.mkdir()
        file.write_text("epochs = 7")
        screen._refresh()
        screen._choose("shop")
        assert "shop" in shown(screen)
        assert screen.state.config.epochs == 7
        await pilot.press("tab", "tab", "e", "x")
        spoil(file)
        screen._refresh()
        assert screen.state.preset == "shop"
        assert screen.question is not None
        await pilot.press("escape")
        screen._refresh()
        assert screen.state.preset == "sft-small"
        assert "shop" not in shown(screen)
        await pilot.press("down", "up", "e", "escape")

    played(report(), steps)


def test_a_run_in_the_way_is_opened_on_top(
    played: Callable[..., None], started: list[Any], commands: list[FakeCommand]
) -> None:
    async def steps(pilot: Pilot[int], _screen: LaunchScreen) -> None:
        await pilot.press("f", "y")

    played(report(Open("sft-small-1")), steps)
    assert started == ["sft-small-1"]
    assert commands == []


def test_a_run_that_cannot_be_resumed_is_reported(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert "Resume gone-1? y/n" in shown(screen)
        await pilot.press("y")
        assert "There are no runs in logs." in screen.notice[0]
        assert screen.notice[1] == "bad"

    played(report(Resume("gone-1")), steps)


def test_rows_are_imported_and_the_other_fixes_follow(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any]
) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        (command,) = commands
        assert command.arguments == ("data", "import", HOSTILE, "--train", "a b.parquet", "--valid", "")
        assert "esc ends it" in shown(screen)
        await pilot.press("f", "y")  # one at a time
        assert len(commands) == 1
        printed = "60 records read = 60 used\n  an example\n54 rows written\nNext: `sft-tui check`\n"
        await asyncio.to_thread(command.done, 0, printed)
        assert screen.notice == ("60 records read = 60 used\n54 rows written", "good")
        assert screen.state.values == {"pretrained_model": "best"}
        assert started == [("pretrain", {"epochs": 1}, {"fresh": False})]

    rest = Start("pretrain", {"epochs": 1}), Set("sft-small", {}, {"pretrained_model": "best"})
    played(report(Import([HOSTILE], "a b.parquet", ""), *rest), steps)


def test_a_run_started_by_a_command_does_not_interrupt_typing(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def begin(_app: SftTuiApp, record: Any) -> Any:
        begun.append(record)
        return type("Started", (), {"record": type("Record", (), {"run": "pretrain-1"})})

    monkeypatch.setattr(SftTuiApp, "begin", begin)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y", "tab", "tab", "e", "ctrl+u", "a")
        await asyncio.to_thread(commands[0].done, 0, "done")
        assert begun
        assert started == []
        await pilot.press("b")
        assert screen.question is not None
        assert screen.question.typed == "ab"
        assert "pretrain-1 has begun" in shown(screen)

    played(report(Command(("data", "tokenizer")), Start("pretrain")), steps)


def test_the_reason_of_a_failure_comes_before_its_fix(
    played: Callable[..., None], commands: list[FakeCommand], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_import, "columns_to_name", lambda *_, **__: {})

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        printed = "reading …\nerror: None of the 3 records can be used.\n  Name the columns.\n"
        await asyncio.to_thread(commands[0].done, 2, printed)
        assert screen.notice == ("error: None of the 3 records can be used. Name the columns.", "bad")

    played(report(Import(["x.csv"], "t", "v")), steps)


def test_escape_ends_a_background_command(played: Callable[..., None], commands: list[FakeCommand]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y", "escape")
        assert commands[0].ended
        await asyncio.to_thread(commands[0].done, 143, "")
        assert screen.notice[0] == "Ended."
        assert not screen.state.task

    played(report(Command(("rehearse", "sft-small"))), steps)


def test_several_fixes_are_listed_and_one_is_chosen(played: Callable[..., None], started: list[Any]) -> None:
    ways = (Start("sft-small", {"epochs": 2}, fresh=True),), (Set("sft-small", {}, {"output_dir": "out_2"}),)
    found = Report([replace(report(Resume("mine-1")).findings[0], others=ways)])

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        assert "3 ways, such as sft-tui resume mine-1" in shown(screen)
        await pilot.press("f")
        for words in (
            "1 Resume mine-1",
            "2 Start sft-small over and keep the old files in earlier/  sft-tui run sft-small --epochs 2 --fresh",
            "3 Set output_dir model_save/sft_small → out_2",
        ):
            assert words in shown(screen)
        await pilot.press("escape", "y")
        assert started == []
        await pilot.press("f", "4", "2")
        assert started == [("sft-small", {"epochs": 2}, {"fresh": True})]
        await pilot.press("f", "down", "down", "enter")
        assert screen.state.values == {"output_dir": "out_2"}

    played(found, steps)


@pytest.mark.parametrize(("lang", "asked"), [("en", "which column holds the prompts?"), ("zh", "哪一列是提问？")])
def test_unknown_columns_are_chosen_on_the_screen(
    played: Callable[..., None],
    commands: list[FakeCommand],
    monkeypatch: pytest.MonkeyPatch,
    lang: Lang,
    asked: str,
) -> None:
    looked: list[Any] = []

    def columns(files: list[str], **named: str) -> dict[str, str]:
        looked.append((files, named))
        return {"id": "7", "a b": "hi", "--reply": "yes"}

    monkeypatch.setattr(data_import, "columns_to_name", columns)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        await asyncio.to_thread(commands[0].done, 2, "error: None of the 3 records can be used.\n")
        await until(pilot, lambda: screen.question is not None)
        assert asked in shown(screen)
        assert "2 a b  hi" in shown(screen)
        await pilot.press("2")
        assert "2 --reply  yes" in shown(screen)  # without the one that is taken
        assert "a b  hi" not in shown(screen)
        await pilot.press("2")
        assert commands[1].arguments[-4:] == ("--prompt_column", "a b", "--response_column", "--reply")
        await asyncio.to_thread(commands[1].done, 0, "3 rows written\n")
        assert screen.state.values == {"epochs": 7}

    played(report(Import(["x.csv"], "t", "v"), Set("sft-small", {}, {"epochs": 7})), steps, lang)
    assert looked == [(["x.csv"], {"prompt_column": "", "response_column": ""})]


def test_an_import_that_fails_otherwise_asks_for_no_columns(
    played: Callable[..., None], commands: list[FakeCommand], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []

    def columns(files: list[str], **_: str) -> dict[str, str]:
        looked.append(files)
        return {}

    monkeypatch.setattr(data_import, "columns_to_name", columns)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        await asyncio.to_thread(commands[0].done, 2, "error: the disk is full\n")
        await until(pilot, lambda: looked)
        await pilot.pause(0.05)
        assert screen.question is None
        assert screen.notice == ("error: the disk is full", "bad")

    played(report(Import(["x.csv"], "t", "v")), steps)


def test_the_launch_footer_has_the_keys_that_act(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        footer = shown(screen).splitlines()[-1]
        assert "start" in footer
        assert "rehearse" in footer
        assert "resume" not in footer
        assert "fix" not in footer
        for key, words in (
            ("r", "no unfinished run"),
            ("f", "This cannot be fixed from here"),
            ("backspace", "Only a setting that was changed can be reset"),
        ):
            await pilot.press(key)
            assert words in shown(screen)
        await pilot.press("tab", "tab")
        assert "enter start" not in shown(screen).splitlines()[-1]

    played(Report([*SOUND.findings], DataFacts(steps=step_facts(per_epoch=5, total=10))), steps)


def test_a_blocked_start_is_not_offered(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        assert "start" not in shown(screen).splitlines()[-1]
        assert "f fix" in shown(screen).splitlines()[-1]
        await pilot.press("enter")
        assert "1 error in the way" in screen.notice[0]
        await pilot.press("h")
        assert "1 error in the way" in screen.notice[0]

    played(report(Resume("mine-1")), steps)


def test_a_screen_that_is_too_small_obeys_only_leaving_keys(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        await pilot.resize_terminal(59, 20)
        assert screen.unseen
        before = screen.state
        await pilot.press("y", "enter", "tab", "down", "escape", "ctrl+p", "l", "question_mark")
        await pilot.click(offset=(5, 5))
        screen.post_message(Paste("y"))
        await pilot.pause()
        assert screen.state == before
        assert screen.is_current
        await pilot.resize_terminal(60, 20)
        assert "Resume mine-1? y/n" in "".join(text for line in screen.lines(60, 20) for text, _ in line)
        await pilot.resize_terminal(60, 19)
        await pilot.press("q")
        assert screen.app._exit

    played(report(Resume("mine-1")), steps)
    assert started == []


def test_a_command_of_the_system_is_copied_and_not_run(
    played: Callable[..., None], commands: list[FakeCommand], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(LaunchScreen, "copy", lambda _screen, words: copied.append(words))

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert screen.question is None

    played(report(System(("ls", "-ld", "a b"))), steps)
    assert copied == ["ls -ld 'a b'"]
    assert commands == []


def test_enter_on_a_problem_fixes_it(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "enter")
        assert screen.question is not None
        await pilot.press("y")
        assert screen.state.values == {"epochs": 4}

    played(report(Set("sft-small", {}, {"epochs": 4})), steps)
    assert started == []


def test_enter_while_checking_starts_when_the_check_is_done(played: Callable[..., None], started: list[Any]) -> None:
    ready = threading.Event()

    def slow(*_: object) -> Report:
        ready.wait(30)
        return SOUND

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("enter")
        assert "starts when the check is done" in shown(screen)
        await pilot.press("escape")
        assert not screen.state.queued
        await pilot.press("enter")
        ready.set()
        await until(pilot, lambda: started)

    played(slow, steps)
    assert started == [("sft-small", {}, {})]


@pytest.mark.parametrize(
    ("lang", "typed", "told"),
    [
        ("en", "abc", "epochs = abc: it must be a whole number, such as 3."),
        ("zh", "2.5", "epochs = 2.5：应为整数，例如 3。"),
        ("en", "", "epochs needs a value, such as 3."),
        ("zh", "0", "epochs = 0：应满足 ≥ 1。"),
    ],
)
def test_a_refused_value_stays_to_be_corrected(played: Callable[..., None], lang: Lang, typed: str, told: str) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.state = replace(screen.state, panel="settings", setting=list(FIELDS).index("epochs"))
        await pilot.press("e", "ctrl+u", *typed, "enter")
        await pilot.pause()
        assert screen.notice == (told, "bad")
        assert screen.question is not None
        assert screen.question.typed == typed
        await pilot.press("ctrl+u", "7", "enter")
        await pilot.pause()
        assert screen.question is None
        assert screen.notice == ("", "")
        assert screen.state.values == {"epochs": 7}

    played(SOUND, steps, lang)


def test_a_line_is_edited_in_its_middle(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "tab", "e", "ctrl+u", *"ac", "left", "b", "home", "x", "end", "y")
        assert screen.question is not None
        assert screen.question.typed == "xabcy"
        await pilot.press("home", "right", "ctrl+k", "z", "left")
        assert screen.question.typed == "xz"
        assert "train_file = x▏z" in shown(screen)
        await pilot.press("ctrl+w", "delete", *"q1", "enter")  # letters are text, not keys of the screen
        assert screen.state.values == {"train_file": "q1"}

    played(SOUND, steps)


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("'my rows.parquet'\n", "my rows.parquet"),
        ('"a b"', "a b"),
        ("a\\ b.parquet", "a b.parquet"),
        ("it's.parquet", "it's.parquet"),
        ("~/x.parquet", "/home/me/x.parquet"),
        ("\n  one.parquet\ntwo.parquet\n", "one.parquet"),
        ("a\x1b]0;x\x07b", "a␛]0;x␇b"),
        ("", ""),
    ],
)
def test_a_pasted_path_is_unquoted(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch, text: str, typed: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "tab", "e", "ctrl+u")
        screen.post_message(Paste(text))
        await pilot.pause()
        assert screen.question is not None
        assert screen.question.typed == typed

    played(SOUND, steps)


def test_a_run_that_ends_is_no_longer_offered(played: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_screen, "REFRESH_SECONDS", 0.05)
    output = OutputDir(Path("model_save/sft_small"))

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        output.checkpoint(23).mkdir(parents=True)
        owner = {"run": "sft-small-1", "steps_total": 69}
        write_json(output.owner_file, owner)
        await until(pilot, lambda: "r: resume" in shown(screen) and "sft-small-1" in shown(screen))
        write_json(output.owner_file, {**owner, "finished": True})
        await until(pilot, lambda: "sft-small-1" not in shown(screen))

    played(SOUND, steps)


def test_the_demo_does_not_interrupt_typing(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(demo, "current", lambda: "demo-pretrain-1" if begun else "")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen._choose("demo")
        await pilot.press("enter", "enter")
        (command,) = commands  # once, whatever is pressed
        assert command.arguments == ("demo", "--detach", "--logs", "logs")
        await pilot.press("tab", "tab", "e", "ctrl+u", "a")
        begun.append(True)
        await asyncio.to_thread(command.done, 0, "demo-pretrain-1")
        assert started == []
        assert "demo-pretrain-1 has begun" in shown(screen)
        await pilot.press("escape", "enter")
        assert len(commands) == 1  # on a setting, enter edits
        await pilot.press("escape", "tab", "enter")
        assert started == ["demo-pretrain-1"]  # which runs: it is opened at once
        assert len(commands) == 1

    played(SOUND, steps)


def test_an_error_in_an_answer_is_shown_on_every_screen(played: Callable[..., None]) -> None:
    def refuse(_key: str) -> None:
        raise InputError("run_none", path="logs")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.ask(Question("Well? y/n", refuse))
        await pilot.press("y")
        assert "logs" in screen.notice[0]

    played(SOUND, steps)


def test_keys_pressed_at_once_are_all_handled(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "tab")
        for key in ("e", "ctrl+u", *"/tmp/q.parquet"):  # without a pause in between, as a terminal sends what is pasted
            names = {"/": "slash", ".": "full_stop"}
            screen.app.post_message(Key(names.get(key, key), key if len(key) == 1 else None))
        await until(pilot, lambda: screen.question is not None and screen.question.typed == "/tmp/q.parquet")

    played(SOUND, steps)
