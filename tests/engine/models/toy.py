"""A family in one file: each token is predicted from the one before it, through an embedding and a head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig

from engine.data.token_store import Row
from engine.models.family import Family
from engine.models.loss import Head, summed_loss, token_losses
from engine.models.model_folder import ModelFolder, Settings
from engine.models.network import Choose, Network, Tokens, labels_of, prompts_of


class ToyConfig(PreTrainedConfig):
    model_type = "toy"


class ToyModel(nn.Module):
    plain_head = True

    def __init__(self, settings: Settings, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.config, self.generation_config = ToyConfig(**settings), GenerationConfig()
        rows, width = state["embed.weight"].shape
        self.embed, self.head = nn.Embedding(rows, width), nn.Linear(width, rows, bias=False)
        self.load_state_dict(state)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.head


class ToyNetwork(Network):
    def __init__(self, model: ToyModel, head: Head, chunk: int) -> None:
        self.model, self.head, self.chunk = model, head, chunk

    def _hidden(self, rows: Sequence[Row]) -> Tensor:
        pairs = zip(prompts_of(rows), labels_of(rows), strict=True)
        before = [torch.cat([prompt[-1:], label[:-1]]) for prompt, label in pairs]
        found: Tensor = self.model.embed(torch.cat(before))
        return found

    def summed_loss(self, rows: Sequence[Row], _: object = None) -> Tensor:
        return summed_loss(self._hidden(rows), self.head, torch.cat(labels_of(rows)), self.chunk)

    @torch.no_grad()
    def row_losses(self, rows: Sequence[Row]) -> list[float]:
        labels = labels_of(rows)
        losses = token_losses(self._hidden(rows), self.head, torch.cat(labels), self.chunk)
        return [float(part.double().sum()) for part in losses.split([len(label) for label in labels])]

    @torch.no_grad()
    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        after = self.model.head(self.model.embed.weight).argmax(dim=1).tolist()
        rows = [[int(prompt[-1])] for prompt in prompts]
        for row in longest * rows:
            row.append(after[row[-1]])
        return [row[1:] for row in rows]

    @torch.no_grad()
    def reply_tokens(self, prompt: Tensor, choose: Choose) -> Tokens:
        token = int(prompt[-1])
        while True:
            token = choose(self.model.head(self.model.embed.weight[token]))
            yield token


class Toy(Family):
    name = "toy"

    def fits(self, settings: Settings) -> bool:
        return settings.get("model_type") == "toy"

    def load(self, folder: ModelFolder, wrapper: str, *, packed: bool) -> ToyModel:  # noqa: ARG002
        return ToyModel(folder.settings, load_file(folder.path / "model.safetensors"))

    def build(self, settings: dict[str, Any], state: dict[str, Tensor], path: Path, *, packed: bool) -> ToyModel:  # noqa: ARG002
        return ToyModel(settings, state)

    def network(self, model: ToyModel, head: Head | None, chunk: int, **_more: Any) -> ToyNetwork:
        assert head is not None, "it is declared by `plain_head`"
        return ToyNetwork(model, head, chunk)
