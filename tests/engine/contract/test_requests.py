"""What the app asks of the engine's processes: read back as it was sent, and nothing else."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from engine.contract import requests
from engine.contract.config import RunConfig, to_json
from engine.contract.requests import TASKS, Request, read_task, request_line

SETTINGS = to_json(RunConfig())
SENT: list[Request] = [
    requests.DataRequest(SETTINGS, ("train_file",), 2, tokenize=False),
    requests.ModelRequest(SETTINGS),
    requests.RowRequest(SETTINGS, "train_file", 3),
    requests.ImportRequest(("a.jsonl",), "t.parquet", shown={"a.jsonl": "-"}, history=0, sample=5),
    requests.ColumnsRequest(("a.jsonl",), prompt_column="问"),
    requests.DemoRequest(train="t.parquet", overwrite=True),
    requests.DemoChatRequest(train="t.parquet", held_out=True),
    requests.DemoTextsRequest(("a.parquet",)),
    requests.TokenizerRequest(("a.parquet",), "out", 4000, "prompt", "response", "messages"),
    requests.FetchRequest("owner/model", "model_save/model", "main", "modelscope"),
    requests.GgufRequest("a.gguf", "model_save/a"),
    requests.ShowRequest("model_save/a"),
    requests.PromptsRequest(SETTINGS, "test_file", 20, 3),
    requests.DigestsRequest("data/a.parquet", (3, 5)),
    requests.BeginningsRequest(SETTINGS, "model_save/a", (requests.WantedRow(1, 2, 3),)),
    requests.WeighRequest(SETTINGS, "", requests.WantedRow(1, 2, 3)),
    requests.DataGlanceRequest("a.jsonl"),
    requests.ModelGlanceRequest("models/a"),
]


@pytest.mark.parametrize("request_", SENT, ids=lambda request: request.task)
def test_a_request_is_read_as_it_was_sent(request_: Request) -> None:
    line = request_line(request_)

    assert line.isascii()
    assert line.count(b"\n") == 1
    assert read_task(line) == (os.getpid(), request_)


def test_every_task_has_a_case_here() -> None:
    assert {type(one) for one in SENT} | {requests.MemoryRequest} == set(TASKS.values())


ROW = json.loads(request_line(requests.RowRequest(SETTINGS, "train_file", 3)))


@pytest.mark.parametrize(
    "change",
    [
        {"task": "shell"},
        {"task": None},
        {"asker": 0},
        {"asker": "1"},
        {"row": -1},
        {"row": 1e9},
        {"row": 10**400},
        {"setting": "x" * 1000},
        {"config": []},
        {"config": {**SETTINGS, "epochs": "3"}},
    ],
    ids=lambda change: repr(change)[:60],
)
def test_a_request_with_a_value_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_task(json.dumps({**ROW, **change}))


def test_paths_hold_no_nul() -> None:
    sound = requests.ImportRequest(("a",), "t")
    for one in (replace(sound, files=("a\0b",)), replace(sound, train="\0")):
        with pytest.raises(ValueError, match="no path"):
            read_task(request_line(one))
