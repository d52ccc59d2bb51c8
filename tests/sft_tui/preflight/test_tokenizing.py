"""What is said of a tokenizer, and which of the tokenizers or configurations is changed where it does not fit."""

from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import DataFacts, TokenizerFacts
from sft_tui.preflight.declaration import CheckedRun, with_remedies
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Command, Edit, Set
from sft_tui.preflight.tokenizing import TOKENIZER, Tokenizer
from tests.sft_tui.preflight.conftest import remedied
from tests.sft_tui.some_facts import file_facts

OTHER_END = Finding("error", "special_token_mismatch", "tokenizer", {"token": "eos", "tokenizer_id": "7"})
DIFFERS = Finding("error", "tokenizer_differs", "tokenizer", {})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model that has no tokenizer of its own."""
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def with_its_own(folder: Path) -> Path:
    """The same after its tokenizer was put next to the model."""
    (folder / "model/tokenizer.json").touch()
    return folder


@pytest.mark.parametrize(("unknown", "share"), [(0, "0.0 %"), (90, "10.0 %"), (900, "100.0 %")])
def test_its_size_and_the_share_of_unknown_tokens_are_shown(unknown: int, share: str) -> None:
    data = DataFacts(train_file=file_facts(unknown_tokens=unknown))
    (finding,) = TOKENIZER.findings(Tokenizer(RunConfig(tokenizer="words"), TokenizerFacts(500, 0, 1), data))
    assert (finding.level, finding.code, finding.subject) == ("ok", "tokenizer", "tokenizer")
    assert "words" in finding.what()
    assert finding.args["unknown"] == share


def test_without_rows_no_token_is_unknown() -> None:
    assert Tokenizer(RunConfig(), TokenizerFacts(500), DataFacts()).unknown == 0.0


@pytest.mark.usefixtures("with_its_own")
@pytest.mark.parametrize("finding", [DIFFERS, OTHER_END], ids=lambda finding: finding.code)
def test_the_models_own_tokenizer_is_the_first_choice(finding: Finding) -> None:
    (action,) = remedied(finding, pretrained_model="model", tokenizer="words").actions
    assert isinstance(action, Set)
    assert action.changes == {"tokenizer": ""}


@pytest.mark.usefixtures("with_its_own")
def test_the_models_own_tokenizer_is_not_proposed_in_its_own_place() -> None:
    train, *_, last = remedied(DIFFERS, pretrained_model="model", tokenizer="model").actions
    assert train.argv[1:3] == ("data", "tokenizer")
    assert isinstance(last, Set)
    assert last.changes["tokenizer"] == "model_new"
    assert last.changes["pretrained_model"] != "model"  # which knows no tokens of a new tokenizer


def test_the_tokenizer_of_a_model_that_cannot_be_used_is_not_replaced() -> None:
    """It goes with the model, whose own finding says what to do."""
    config = RunConfig(pretrained_model="x.gguf", tokenizer="")
    bad = Finding("error", "tokenizer_bad", "tokenizer", {"path": ".", "why": "-"})
    run = CheckedRun(config, lambda **_: Command(()), [bad, Finding("error", "model_kind", "pretrained_model", {})])
    found = next(with_remedies(run))
    assert (found.actions, found.fix()) == ((), "It comes with the model.")


@pytest.mark.usefixtures("folder")
def test_a_new_model_takes_a_new_tokenizer() -> None:
    _, action = remedied(DIFFERS, pretrained_model="", tokenizer="words/").actions
    assert isinstance(action, Set)
    assert action.changes == {"tokenizer": "words_new"}


@pytest.mark.usefixtures("folder")
def test_a_models_end_token_is_set_to_the_tokenizers() -> None:
    assert remedied(OTHER_END, pretrained_model="model", tokenizer="words").actions == (
        Edit("model/config.json", "eos_token_id", 7),
    )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("code", ["special_token_mismatch", "tokenizer_token_missing"])
def test_a_token_that_is_likely_meant_is_named_in_the_tokenizer(code: str) -> None:
    finding = Finding("error", code, "tokenizer", {"token": "eos", "tokenizer_id": "7", "likely": "</s>"})
    assert remedied(finding, pretrained_model="model", tokenizer="words").actions == (
        Edit("words/tokenizer_config.json", "eos_token", "</s>"),
    )


@pytest.mark.parametrize(
    ("options", "unused", "kept"),
    [
        ("enable_thinkin=false", ("enable_thinkin",), ""),
        ('a=1, b="x,y" ,c=[1,2]', ("a",), ' b="x,y" ,c=[1,2]'),
        ("a=1,b=2,c=3", ("a", "c"), "b=2"),
    ],
)
def test_options_that_a_template_does_not_know_are_left_out(options: str, unused: tuple[str, ...], kept: str) -> None:
    config = RunConfig(template_options=options)
    found = TOKENIZER.findings(Tokenizer(config, TokenizerFacts(500, unused_options=unused), DataFacts()))
    (finding,) = [one for one in found if one.level == "warning"]
    assert finding.code == "template_options_unused"
    assert all(name in finding.what(lang) for name in unused for lang in ("en", "zh"))
    (action,) = remedied(finding, template_options=options).actions
    assert isinstance(action, Set)
    assert action.changes == {"template_options": kept}
