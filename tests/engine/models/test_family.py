"""What a family of models gets for nothing: its parts, its facts, and its head."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract import events
from engine.contract.config import RunConfig
from engine.contract.facts import SpecialTokens
from engine.contract.memory import MemoryFacts
from engine.models import inspection
from tests.engine.models.t5.test_memory import PLAN
from tests.engine.models.test_inspection import config_of

if TYPE_CHECKING:
    from tests.engine.conftest import Runner


def test_its_parts_are_frozen_by_their_names(run_here: "Runner", toy: dict[str, Any]) -> None:
    run = run_here(**{**toy, "freeze": "head", "epochs": 1})
    (plan,) = run.all(events.Plan)
    assert (run.code, plan.parameters_trained * 2) == (0, plan.parameters)
    assert run_here(**{**toy, "freeze": "decoder"}).ended.message.args["known"] == "embed, head"


def test_a_family_is_described_by_its_settings_and_its_tensors(toy: dict[str, Any]) -> None:
    facts = inspection.describe(config_of(toy["pretrained_model"], freeze="head"))
    weights = Path(toy["pretrained_model"], "model.safetensors")
    assert (facts.family, facts.rows * 16 * 2) == ("toy", facts.sizes.parameters)
    assert facts.sizes.trained * 2 == facts.sizes.parameters
    assert facts.weights_bytes == weights.stat().st_size
    assert facts.special == SpecialTokens(None, (1,), None, ())


def test_without_a_formula_its_memory_is_unknown_and_not_zero(toy: dict[str, Any]) -> None:
    facts = inspection.describe(config_of(toy["pretrained_model"], freeze=""))
    assert inspection.predicted(facts, 40, RunConfig(), PLAN) == MemoryFacts(host=None, device=None)
