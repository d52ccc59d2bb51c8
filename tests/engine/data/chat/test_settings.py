"""Which tokens end a reply, as a model's folder names them."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.chat.settings import stops_of


@pytest.mark.parametrize(
    ("generation", "config", "stops"),
    [
        ({"eos_token_id": 2}, {"eos_token_id": 9}, (2,)),
        ({"eos_token_id": [128009, 128001, 128009]}, {}, (128001, 128009)),
        ({}, {"eos_token_id": [3, 4]}, (3, 4)),
        ({"eos_token_id": None}, {"eos_token_id": 7}, (7,)),
        ({"eos_token_id": ["2", True, -1, 5, {}]}, {}, (5,)),
        ({}, {}, ()),
    ],
)
def test_generation_settings_come_before_the_configuration(
    tmp_path: Path, generation: dict[str, Any], config: dict[str, Any], stops: tuple[int, ...]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert stops_of(str(tmp_path)) == stops


def test_no_folder_names_no_stops() -> None:
    assert stops_of("") == ()
