"""Which models are computed by transformers' own code, and how they are built again from a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, UMT5Config, UMT5ForConditionalGeneration
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from engine.contract.messages import InputError
from engine.models.seq2seq.family import MODEL_TYPES, Seq2Seq
from engine.models.seq2seq.padded import PaddedNetwork
from tests.engine.models.small import SHAPE
from tests.engine.models.test_network import chosen


@pytest.mark.parametrize("bf16", [True, False])
def test_a_bart_is_padded(tiny_bart: Path, bf16: bool) -> None:
    assert isinstance(chosen(AutoModelForSeq2SeqLM.from_pretrained(tiny_bart), bf16=bf16), PaddedNetwork)


def test_a_umt5_is_padded() -> None:
    torch.manual_seed(0)
    assert isinstance(chosen(UMT5ForConditionalGeneration(UMT5Config(**SHAPE))), PaddedNetwork)


def test_every_type_that_is_promised_is_one_of_transformers() -> None:
    assert MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys() >= MODEL_TYPES


@pytest.mark.parametrize("said", ["t5", "gpt2", "bart ", ["bart"], {"bart": 1}, 7, None])
def test_any_other_type_is_none_of_its_own(said: Any) -> None:
    assert not Seq2Seq().fits({"model_type": said})


@pytest.mark.parametrize("settings", [{"model_type": "gpt2"}, {"model_type": "bart", "d_model": "wide"}, {}], ids=str)
def test_a_checkpoint_that_describes_no_such_model_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        Seq2Seq().build(settings, {}, Path("step-00000001"), packed=False)
    assert refused.value.message.code == "model_bad"
    assert "step-00000001" in refused.value.message.text()
