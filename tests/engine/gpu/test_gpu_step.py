"""A step on a GPU is the step of the processor in fp32, and the host waits for nothing in its micro-batches."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.cpu import placement
from engine.models.freezing import trained_parameters
from engine.models.network import prompts_of
from engine.models.on_device import find_head, network_of
from engine.process.world import World
from engine.training import optim
from engine.training.step import StepRunner
from tests.engine.gpu.models import CASES, net_of, on_the_processor, padded, rows_of, waits_refused
from tests.engine.models.causal.exact import apart
from tests.engine.training.test_causal_step import Held
from tests.engine.training.test_host_waits import step_of

BUDGET = 60  # tokens of a micro-batch
NEAR = {"fp32": 1e-4, "bf16": 0.1}  # gradients, by the norm of all of them
KINDS = pytest.mark.parametrize("kind", ["fp32", "bf16"])


@pytest.fixture(autouse=True)
def as_on_a_gpu(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor takes a GPU's way through the code."""
    monkeypatch.setattr(placement, "on_host", lambda tensor: tensor.device != device)


def step_here(world: World, name: str, *, lora: bool) -> tuple[Any, dict[str, torch.Tensor]]:
    """The step in fp32, as a run without a GPU does it."""
    with on_the_processor():
        net = net_of(name, lora=lora).eval()
        return step_of(network_of(net, find_head(net), 7, bf16=False), rows_of(name), world, BUDGET)


@KINDS
@pytest.mark.parametrize(("name", "lora"), CASES)
def test_a_step_is_that_of_the_processor_in_fp32(
    device: torch.device, cpu_world: World, tmp_path: Path, name: str, lora: bool, kind: str
) -> None:
    expected, gradients = step_here(cpu_world, name, lora=lora)
    network, rows = padded(name, device, bf16=kind == "bf16", lora=lora), rows_of(name)
    store: Any = Held(rows)
    if lora:
        network.drop_frozen_fp32()
    elif name == "t5 kept":
        assert network.keep_encodings(store, tmp_path / "encodings", cpu_world, writes=True)
    for _ in range(2):  # the second with encodings that were written
        found, ours = step_of(network, rows, cpu_world, BUDGET)
        on_host = {key: part.cpu() for key, part in ours.items()}
        assert found.micro_batches > 1
        assert found.loss == pytest.approx(expected.loss, rel=1e-5 if kind == "fp32" else 2e-2)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=NEAR[kind])
        assert apart(on_host, {key: part.double() for key, part in gradients.items()}) <= NEAR[kind]
        near = (1e-4, 0.0) if kind == "fp32" else (5e-2, 5e-2)
        losses, wanted = ([loss for *_, loss in sorted(each.rows)] for each in (found, expected))
        assert losses == pytest.approx(wanted, rel=near[0], abs=near[1])


@KINDS
@pytest.mark.parametrize(("name", "lora"), CASES)
def test_the_host_waits_for_nothing_in_a_micro_batch(
    device: torch.device, cpu_world: World, tmp_path: Path, name: str, lora: bool, kind: str
) -> None:
    """Nor while rows are sent, encodings read and new ones made; libraries may wait when they start."""
    network, rows = padded(name, device, bf16=kind == "bf16", lora=lora), rows_of(name)
    store: Any = Held(rows)
    step_of(network, rows, cpu_world, BUDGET)
    if name == "t5 kept":
        assert network.keep_encodings(store, tmp_path / "encodings", cpu_world, writes=True)
    parameters = list(trained_parameters(network.model).values())
    runner = StepRunner(network, store, cpu_world, parameters, BUDGET, 1e9)
    for chosen in [[0, 1, 2], [7, 8, 9], [2, 1, 3]]:
        network.begin_step()
        batches = [chosen[:2], chosen[2:]]
        held = [store.rows_at(some) for some in batches]
        with waits_refused(device), runner.casting():
            network.send(held, batches)
            for some, batch in zip(batches, held, strict=True):
                (network.summed_loss(batch, some) / 7).backward()
    assert all(parameter.grad is not None for parameter in parameters[:1])


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_updates_are_those_of_the_processor(device: torch.device, name: str) -> None:
    """Fused, and by stacks; and a state that was saved there continues here."""
    config = RunConfig(optimizer=name, learn_rate=1e-2, weight_decay=0.1)
    here, there = ({key: moved(p, place) for key, p in net_of("t5").named_parameters()} for place in ("cpu", device))
    theirs = optim.make_optimizer(config, there.values())
    for step in range(5):
        with on_the_processor():
            if step == 0:
                ours = optim.make_optimizer(config, here.values())
            if step == 4:
                names = {id(parameter): key for key, parameter in there.items()}
                saved = {key: value.cpu() for key, value in optim.state_tensors(theirs, names).items()}
                here = {key: moved(parameter, "cpu") for key, parameter in there.items()}
                ours = optim.make_optimizer(config, here.values())
                optim.load_state_tensors(ours, here, saved)
            give_gradients(here, step)
            ours.step()
        give_gradients(there, step)
        counters = [state["step"] for state in theirs.state.values() if name == "adafactor"]
        with waits_refused(device, counters) if step > 1 else nullcontext():
            theirs.step()
    for key, value in there.items():
        torch.testing.assert_close(value.detach().cpu(), here[key].detach(), rtol=1e-4, atol=1e-6)


def moved(parameter: torch.Tensor, place: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(parameter.detach().clone().to(place))


def give_gradients(parameters: dict[str, torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for one in parameters.values():
        one.grad = (torch.randn(one.shape, generator=generator) * 1e-2).to(one.device)


@pytest.mark.parametrize("name", ["t5", "llama", "gemma2"])
def test_losses_and_replies_of_an_evaluation_are_those_of_the_processor(device: torch.device, name: str) -> None:
    rows, net = rows_of(name), net_of(name).eval()
    prompts = prompts_of(rows)
    with on_the_processor():
        here = network_of(net, find_head(net), 7, bf16=False)
        here.begin_step()
        losses, expected = here.row_losses(rows), here.replies(prompts, 6)
    there = padded(name, device, bf16=False)
    assert there.row_losses(rows) == pytest.approx(losses, rel=1e-4)
    replies = [plain(reply, net) for reply in expected]
    assert [plain(reply, net) for reply in there.replies(prompts, 6)] == replies
    tokens = there.reply_tokens(prompts[2], lambda logits: int(logits.argmax()))
    assert [next(tokens) for _ in replies[2]] == replies[2]


def plain(reply: list[int], net: Any) -> list[int]:
    """A reply up to its end, without the token that a decoder begins with."""
    found = reply[1:] if net.config.is_encoder_decoder and reply[:1] == [net.config.decoder_start_token_id] else reply
    end = next((place for place, token in enumerate(found) if token == net.config.eos_token_id), len(found))
    return found[:end]
