"""A model so small that a save takes a few milliseconds, in the tests' process and in programs of their own."""

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase
from transformers.utils import logging

from engine.contract.manifest import FrozenFile, Manifest
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.data.tokenizer import load_tokenizer
from engine.models import freezing
from engine.models.registry import parts_of
from engine.training import checkpoint, optim
from engine.training.checkpoint import CheckpointWriter, Saved

BETTER = "decoder.final_layer_norm.weight"  # the weight that tells a better model from the one before
MARKS: dict[tuple[tuple[str, bytes], ...], float] = {}  # of models that were loaded, by the hashes of their files


@dataclass(frozen=True)
class Tiny:
    """What there is to save."""

    model: Any
    optimizer: torch.optim.Optimizer
    tokenizer: PreTrainedTokenizerBase

    def writer(self, output: OutputDir, *, keep: int = 2, frozen: FrozenFile | None = None) -> CheckpointWriter:
        """A writer of checkpoints of this model."""
        return CheckpointWriter(output, self.model, self.optimizer, keep=keep, frozen=frozen)

    def publish(self, output: OutputDir, mark: float) -> None:
        """Publishes the model with `mark` in one of its weights."""
        output.path.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            self.model.get_parameter(BETTER).fill_(mark)
        checkpoint.publish_best(output, self.model, self.tokenizer)


def load(model_folder: Path, tokenizer_folder: Path) -> Tiny:
    """A model whose decoder learned for one step, its optimizer and its tokenizer."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    net = AutoModelForSeq2SeqLM.from_pretrained(model_folder)
    freezing.freeze(net, "encoder,embeddings", parts_of(net))
    optimizer = optim.make_optimizer(preset("sft-small").config, freezing.trained_parameters(net).values())
    ids = torch.tensor([[5, 6, 7, 1]])
    net(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return Tiny(net, optimizer, load_tokenizer(str(tokenizer_folder)))


def save_and_prune(writer: CheckpointWriter, step: int) -> Saved:
    """One save as training does it: what is too many goes after the new one is there."""
    saved = writer.save(Manifest(step=step))
    writer.prune(step, best_step=-1)
    return saved


def frozen_entry(output: OutputDir) -> FrozenFile | None:
    """The entry of the frozen file in the newest sound checkpoint, as a run that resumes has it."""
    found, _ = checkpoint.newest_sound(output)
    return None if found is None else found.manifest.frozen


def published_mark(folder: Path) -> float:
    """The mark of a published model, loaded as a user would load it, tokenizer and all; the same bytes only once."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    content = tuple((str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).digest()) for path in files)
    if content not in MARKS:
        net = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True)
        assert load_tokenizer(str(folder)).eos_token_id == 1
        MARKS[content] = float(net.get_parameter(BETTER).detach()[0])
    return MARKS[content]


def copy(source: Path, target: Path) -> OutputDir:
    """A fresh copy of an output folder."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(target)
    shutil.copytree(source, target)
    return OutputDir(target)


def add_damaged(output: OutputDir, tiny: Tiny) -> None:
    """Adds a checkpoint of step 3 that is damaged, and will be replaced when training reaches it."""
    tiny.writer(output).save(Manifest(step=3))
    (output.checkpoint(3) / checkpoint.WEIGHTS).write_bytes(b"")
