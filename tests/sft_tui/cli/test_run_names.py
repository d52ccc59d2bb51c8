"""Commands on runs by their names: whose model is tested and asked, and whom no name means."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.contract.config import to_json
from engine.contract.conversing import Replied
from engine.contract.durable import write_json
from engine.contract.events import Envelope, Record, encode
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir, create_run_dir
from sft_tui.cli import main, run_commands, showing, starting_commands
from tests.sft_tui.conftest import ENDED


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutputDir:
    """A project with two finished runs in one output folder, the older one set aside, and a run without a model."""
    monkeypatch.chdir(tmp_path)
    for module in (run_commands, showing, starting_commands):
        monkeypatch.setattr(module, "LANG", "en")
    (tmp_path / "rows").touch()
    output = OutputDir(Path("out"))
    for name in ("sft-small-1", "sft-small-2"):
        id, run_dir = new_id(), create_run_dir(Path("logs"), "sft-small")
        own = {"output_dir": "out", "test_file": "rows", "max_seq_len": 33, "template_options": "thinking=false"}
        config = {**to_json(preset("sft-small").config), **own}
        run_dir.write_record(RunRecord(name, "sft-small", "train", config, id=id, processes=1024))
        output.set_aside()
        output.best.mkdir(parents=True)
        write_json(output.owner_file, {"run": name, "id": id, "config": config | {"seed": int(name[-1])}})
    RunDir(Path("logs/other-1")).path.mkdir()
    RunDir(Path("logs/other-1")).write_record(RunRecord("other-1", "sft-small", "train", config, id=new_id()))
    return output


def said(*words: str) -> tuple[int, str]:
    """Exit code and output of a command, called in this process; an error of ours is part of its output."""
    result = CliRunner().invoke(main.cli, words)
    error = result.exception
    if isinstance(error, InputError):
        return error.exit_code, result.output + error.message.text("en")
    assert isinstance(error, SystemExit | None), error
    return result.exit_code, result.output


@pytest.mark.parametrize(("name", "place"), [("sft-small-2", "out"), ("sft-small-1", "out/earlier/sft-small-1")])
def test_test_and_reply_take_the_name_of_a_run(
    trained: OutputDir, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    asked: list[Any] = []

    class Yes(contextlib.nullcontext["Yes"]):
        """A conversation with a model that agrees."""

        def __init__(self, model: str, *, template_options: str, **_how: object) -> None:
            super().__init__(self)
            asked.extend((model, template_options))

        def change(self, _request: object) -> None:
            """Forgets nothing."""

        def reply(self, text: str) -> Replied:
            """Agrees."""
            asked.append(text)
            return Replied("yes", "end", 1, 0.1)

    monkeypatch.setattr("sft_tui.conversation.Conversation", Yes)
    assert said("reply", "--run", name, "hello") == (0, "yes\n")
    assert asked == [f"{place}/best", "thinking=false", "hello"]
    monkeypatch.setattr(showing, "launch", lambda record, logs, _view: asked.append((record, logs)))
    assert said("test", "--run", name, "--eval_rows", "5") == (0, "")
    record, logs = asked[-1]
    assert (record.job, record.run, record.processes, logs) == ("test", "", 0, Path("logs"))
    config = record.run_config()
    assert (config.output_dir, config.seed, config.max_seq_len, config.eval_rows) == (place, int(name[-1]), 33, 5)
    assert (trained.path / "RUN.json").exists()


@pytest.mark.parametrize("command", [("test",), ("reply", "hello")])
def test_a_name_without_a_model_is_refused_with_the_known_names(trained: OutputDir, command: tuple[str, ...]) -> None:
    code, text = said(*command, "--run", "sft-smal-1")
    assert code == 2
    assert "no run named sft-smal-1" in text
    assert "sft-small-1" in text.split("Did you mean")[1]
    code, text = said(*command, "--run", "other-1")  # the folder that it names has the model of another run
    assert code == 2
    assert f"other-1 has no best model: {trained.best} does not exist" in text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["test"], "Name what to test"),
        (["test", "sft-small", "--run", "sft-small-1"], "Name what to test"),
        (["reply", "hello", "--run", "sft-small-1", "--model", "x"], "only one of them"),
    ],
)
def test_only_one_model_can_be_named(trained: OutputDir, words: list[str], why: str) -> None:
    code, text = said(*words)
    assert code == 2
    assert why in text
    assert trained.best.exists()


@pytest.mark.parametrize("command", ["status", "stop", "pause", "attach", "logs"])
def test_without_a_name_the_last_run_is_meant(trained: OutputDir, command: str) -> None:
    last = RunDir(Path("logs/sft-small-1"))
    last.write_record(last.read_record())  # as a resume does
    locks = [FolderLock.acquire(Path("logs", name), name, Path("logs", name)) for name in ("sft-small-2", "other-1")]
    words = (command, *(["--no-wait"] if command in ("stop", "pause") else ["--no-ui"] * (command == "attach")))
    stopping = command in ("stop", "pause")
    if command == "attach":
        last.events.write_bytes(encode(Record(Envelope("", 1.0, 1, "rank0", 1), ENDED)))
    code, text = said(*words)
    assert "This is sft-small-1" in text
    assert "Also running: " in text
    assert set(text.split("Also running: ")[1].split(". ")[0].split(", ")) == {"sft-small-2", "other-1"}
    assert code == (2 if stopping else 0)  # it is not running, and no other is asked in its place
    assert not any(RunDir(Path("logs", name)).stop_requested() for name in ("sft-small-2", "other-1"))
    assert "Also running" not in said(command, "sft-small-1", *words[1:])[1]
    for lock in locks:
        lock.release()
    assert "Also running" not in said(*words)[1]
    assert trained.best.exists()


@pytest.mark.usefixtures("trained")
def test_a_note_is_kept_shown_and_changed() -> None:
    assert said("note", "sft-small-1")[1] == "Nothing is noted about sft-small-1.\n"
    assert said("note", "sft-small-1", "the  baseline", "--tag", "keep")[1] == "the baseline #keep\n"
    assert said("note", "sft-small-1", "--tag", "a", "--tag", "b")[1] == "the baseline #a #b\n"
    assert '"tags": ["a", "b"]' in " ".join(said("status", "sft-small-1", "--json")[1].split()).replace(
        "[ ", "["
    ).replace(" ]", "]")
    assert said("note", "sft-small-1", "--json")[1] == '{"text": "the baseline", "tags": ["a", "b"]}\n'
    assert said("note", "sft-small-1", "", "--tag", "")[1].startswith("Nothing is noted")
    assert said("note", "sft-small-1", "--tag", "a b")[0] == 2
