"""Facts about a model of another family, cached."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts, Positions
from engine.inspecting.model_facts import model_facts
from engine.models.model_folder import ModelFolder
from engine.models.seq2seq import described, note
from tests.engine.models.families import saved
from tests.engine.models.test_inspection import config_of

describe = described.describe


def test_facts_of_a_family_are_kept_until_its_model_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("BartForConditionalGeneration", tmp_path / "bart")
    config = replace(config_of(tmp_path / "bart"), token_store=str(tmp_path / "store"))
    asked: list[Path] = []

    def counted(folder: ModelFolder, config: RunConfig) -> ModelFacts:
        asked.append(folder.path)
        return describe(folder, config)

    monkeypatch.setattr(described, "describe", counted)
    first = model_facts(config)
    assert model_facts(config) == first
    assert len(asked) == 1
    assert model_facts(replace(config, freeze="")).sizes.trained == first.sizes.parameters
    assert len(asked) == 2
    kept = tmp_path / "store" / note.RECORD
    kept.write_text(kept.read_text().replace('"rows": 400', '"rows": 500'))
    assert model_facts(config) == first
    saved("BartForConditionalGeneration", tmp_path / "bart", max_position_embeddings=50)
    assert model_facts(config).positions == Positions(50, 50)
