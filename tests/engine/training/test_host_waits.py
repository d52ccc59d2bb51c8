"""How often the host waits for a GPU in a step, counted on the processor, which takes a GPU's way through the code."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.contract.config import RunConfig
from engine.cpu import placement
from engine.data import batching
from engine.models.causal import varlen
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.varlen import VarlenCausal
from engine.models.freezing import set_training_mode, trained_parameters
from engine.models.lora import AdaptedLinear
from engine.models.loss import declared_head
from engine.models.on_device import find_head
from engine.models.seq2seq.padded import PaddedNetwork
from engine.process import gradient_sums
from engine.process.world import World
from engine.training import optim
from engine.training.sharded_step import ShardedRunner
from engine.training.step import StepRunner
from tests.engine.gpu.conftest import require_gpus
from tests.engine.models.adapters import learning, settings
from tests.engine.models.causal import exact, varlen_kernel
from tests.engine.models.small import LENGTHS, frozen, random_rows, small_t5
from tests.engine.training.test_causal_step import Held

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}


class Waits(TorchDispatchMode):
    """Counts what would have the host wait for values, and casts of weights."""

    def __init__(self, weights: list[Any], held: list[Tensor] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()
        self._weights = {weight.data_ptr() for weight in weights}
        self._held = {tensor.data_ptr() for tensor in held or []}  # on the host even with a GPU

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS and args[0].data_ptr() not in self._held:
            self.found[name] += 1
        if name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        ):
            self.found["boolean index"] += 1
        if name == "_to_copy" and args[0].data_ptr() in self._weights:
            self.found["casts of weights"] += 1
        return func(*args, **(kwargs or {}))


class Crossings(TorchDispatchMode):
    """Remembers the sizes of what is copied from one device to another."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        pair: tuple[Any, ...] = (args[0], result) if name == "_to_copy" else args[:2] if name == "copy_" else ()
        if len({tensor.device for tensor in pair}) > 1:
            self.found.append(pair[0].numel())
        return result


class Copies(TorchFunctionMode):
    """Counts copies to the host, which are none on the processor."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            self._found["copies to the host"] += 1
        if func is Tensor.tolist:
            self._found["lists of values"] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _without_the_gpus_kernel(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr(varlen, "kernel", lambda: varlen_kernel.varlen_attn)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "on_host", lambda _: False)


def t5(*, bf16: bool, lora: bool = False) -> tuple[PaddedNetwork, list[Any]]:
    net = small_t5("t5")
    if lora:
        learning(net, settings())
    return PaddedNetwork(net, find_head(net), 7, autocast=bf16), random_rows()


def llama(*, bf16: bool, lora: bool = False) -> tuple[PaddedCausal, list[Any]]:
    net = exact.drawn("llama")
    if lora:
        learning(net, settings())
    return PaddedCausal(net, find_head(net), 5, bf16=bf16), exact.random_rows()


def varlen_llama(*, bf16: bool, lora: bool = False, device: str = "cpu") -> tuple[VarlenCausal, list[Any]]:
    net = exact.drawn("llama", num_attention_heads=2, num_key_value_heads=1)  # of 8 numbers, which a GPU's kernel takes
    if lora:
        learning(net, settings())
    net.to(device)
    return VarlenCausal(net, find_head(net), 5, bf16=bf16), exact.random_rows()


def gemma(*, bf16: bool, lora: bool = False) -> tuple[PaddedCausal, list[Any]]:
    """One whose logits are capped, so that they are more than a product with the head."""
    net = exact.drawn("gemma2", head_dim=8, sliding_window=6)
    if lora:
        learning(net, settings())
    assert find_head(net) is None
    return PaddedCausal(net, None, 5, bf16=bf16), exact.random_rows()


MODELS = (t5, llama, varlen_llama)


def step_of(
    network: Any, rows: list[Any], world: World, budget: int, runner: Callable[..., StepRunner] = StepRunner
) -> tuple[Any, dict[str, Any]]:
    trained = trained_parameters(network.model)
    network.model.zero_grad()
    store: Any = Held(rows)
    found = runner(network, store, world, list(trained.values()), budget, 1e9).run(
        np.arange(len(rows)), stop_asked=False
    )
    return found, {name: part.grad for name, part in trained.items() if part.grad is not None}


@pytest.mark.parametrize("model", [*MODELS, gemma])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_host_waits_twice_a_step_and_weights_are_cast_once(cpu_world: World, model: Any) -> None:
    network, rows = model(bf16=True)
    set_training_mode(network.model)
    with Waits(list(network.model.parameters())) as waits, Copies(waits.found):
        result, _ = step_of(network, rows, cpu_world, 1)
    weights = sum(parameter.dim() > 1 for parameter in network.model.parameters())
    casts = waits.found.pop("casts of weights")
    assert result.micro_batches == len(rows) > 3
    assert casts <= weights
    assert waits.found == {"_local_scalar_dense": 1, "copies to the host": 1}


def as_one_of_two(monkeypatch: pytest.MonkeyPatch, world: World) -> list[torch.device]:
    """Makes a rank the first of two, the second of which adds nothing; returns where its sums are uploaded to."""
    uploads: list[torch.device] = []

    def all_reduce(_flat: Tensor, *, async_op: bool = False) -> Any:
        return SimpleNamespace(wait=lambda: None) if async_op else None

    def copied(tensor: Tensor, device: torch.device) -> Tensor:
        uploads.append(device)
        return tensor.clone()

    monkeypatch.setattr(world, "size", 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(batching, "deal", lambda lengths, _size: [list(range(len(lengths.total)))])
    monkeypatch.setattr(placement, "copied", copied)
    return uploads


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_two_gpus_wait_for_a_step_no_more_often_than_one(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    """The sums over ranks and the norm of the gradients are read at once; what is summed is uploaded without a wait."""
    network, rows = model(bf16=True)
    network.model.eval()
    alone = step_of(network, rows, cpu_world, 1)[0]
    uploads = as_one_of_two(monkeypatch, cpu_world)
    with Waits([]) as waits, Copies(waits.found):
        result, _ = step_of(network, rows, cpu_world, 1)
    assert (result.loss, result.grad_norm) == (alone.loss, pytest.approx(alone.grad_norm))
    assert waits.found == {"lists of values": 1, "copies to the host": 1}
    assert len(uploads) == 1


@pytest.mark.usefixtures("as_on_a_gpu")
def test_ranks_that_divide_a_model_wait_two_times_more(cpu_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the norm of each one's gradients, and for the sum of these over the ranks."""
    shards: Any = SimpleNamespace(drop_gradients=lambda: None, take_gradients=lambda: None)
    network, rows = llama(bf16=True)
    network.model.eval()
    alone = step_of(network, rows, cpu_world, 1)[0]
    uploads = as_one_of_two(monkeypatch, cpu_world)
    with Waits([]) as waits, Copies(waits.found):
        result, _ = step_of(network, rows, cpu_world, 1, partial(ShardedRunner, shards=shards))
    assert (result.loss, result.grad_norm) == (alone.loss, pytest.approx(alone.grad_norm))
    assert waits.found == {"lists of values": 2, "copies to the host": 1, "_local_scalar_dense": 1}
    assert len(uploads) == 2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_with_adapters_only_what_learns_is_cast(cpu_world: World, model: Any) -> None:
    """Frozen weights lie there in bf16; the head of a T5 that is its fp32 embeddings too is cast once."""
    network, rows = model(bf16=True, lora=True)
    network.drop_frozen_fp32()
    set_training_mode(network.model)
    trained = trained_parameters(network.model)
    with Waits(list(network.model.parameters())) as waits:
        result, gradients = step_of(network, rows, cpu_world, 1)
    assert result.micro_batches == len(rows) > 3
    assert gradients.keys() == trained.keys()
    assert 0 < waits.found["casts of weights"] <= len(trained) // 2 + (model is t5)  # B is scaled first
    linear = (module for module in network.model.modules() if isinstance(module, AdaptedLinear))
    assert all(layer.weight.dtype == torch.bfloat16 for layer in linear)


@pytest.mark.parametrize("model", [*MODELS, gemma])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_step_is_uploaded_at_once(cpu_world: World, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    sent: list[int] = []

    def uploaded(tensors: list[Tensor], _device: torch.device) -> list[Tensor]:
        sent.append(len(tensors))
        return placement.parted(placement.laid(tensors), tensors)

    network, rows = model(bf16=False)
    network.model.eval()
    expected = step_of(network, rows, cpu_world, 1)[0]
    monkeypatch.setattr(placement, "uploaded", uploaded)
    found = step_of(network, rows, cpu_world, 1)[0]
    assert (found.loss, found.rows) == (expected.loss, expected.rows)
    assert len(sent) == 1
    assert sent[0] == found.micro_batches * (4 if model is llama else 5)


@pytest.mark.parametrize("name", ["t5", "t5 kept", "llama", "gemma"])
def test_a_micro_batch_takes_from_the_host_only_what_was_sent(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """On torch's device without memory, on which values that are read, and places that depend on some, are errors."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which that device does not have
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(placement, "on_host", lambda tensor: tensor.device.type == "cpu")
    made, rows = {"llama": llama, "gemma": gemma}.get(name, t5)(bf16=False)
    net = (frozen(made.model, "encoder,embeddings") if name == "t5 kept" else made.model).to("meta")
    head = None if name == "gemma" else declared_head(net)
    network: Any = PaddedCausal(net, head, 7, bf16=False) if name in ("llama", "gemma") else None
    network = network or PaddedNetwork(net, head, 7, autocast=False)
    if name == "t5 kept":
        store: Any = Held(rows)
        assert network.keep_encodings(store, tmp_path / "encodings", cpu_world, writes=True)
    samples = [[0, 3], [1], [2]]
    batches = [[rows[sample] for sample in some] for some in samples]
    with Crossings() as crossings:
        network.send(batches, samples)
        assert len(crossings.found) == (2 if name == "t5 kept" else 1)  # the prompts that are encoded
        for batch, some in zip(batches, samples, strict=True):
            network.summed_loss(batch, some).backward()
    assert len(crossings.found) == (2 if name == "t5 kept" else 1)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_new_encodings_reach_the_disk_when_the_next_step_begins(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So nothing waits for them, and later steps bring kept ones to the device by one copy, without their prompts."""
    done: list[str] = []
    uploaded: list[int] = []

    def fetched(tensor: Tensor) -> Callable[[], Tensor]:
        def read() -> Tensor:
            done.append("written")
            return tensor

        return read

    def all_on(tensors: list[Tensor], _device: torch.device) -> list[Tensor]:
        done.append("encodings sent")
        return tensors

    def upload(tensors: list[Tensor], _device: torch.device) -> list[Tensor]:
        uploaded.append(len(tensors))
        return tensors

    net, rows = frozen(small_t5("t5"), "encoder,embeddings"), random_rows(LENGTHS * 2)
    network, store = PaddedNetwork(net, find_head(net), 7, autocast=True), Held(rows)
    held: Any = store
    assert network.keep_encodings(held, tmp_path / "encodings", cpu_world, writes=True)
    monkeypatch.setattr(placement, "fetched", fetched)
    monkeypatch.setattr(placement, "all_on", all_on)
    monkeypatch.setattr(placement, "uploaded", upload)
    losses = []
    for expected, uploads in (([], 3), (["written"] * 2, 1), ([], 1)):  # two groups of neighbours are encoded
        done.clear()
        uploaded.clear()
        with Waits([]) as waits, Copies(waits.found):
            result, _ = step_of(network, rows, cpu_world, 1)
        losses.append(result.loss)
        assert (done, len(uploaded)) == ([*expected, "encodings sent"], uploads)
        assert uploaded[0] == 4 * result.micro_batches == 4 * len(rows)
        assert waits.found == {"_local_scalar_dense": 1, "copies to the host": 1}
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("orphaned", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_gradients_of_ranks_are_summed_before_their_losses(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, model: Any, orphaned: bool
) -> None:
    """Some of them by the last micro-batch; all of them by a rank that gives a step up, for which the others wait."""
    sizes: list[int] = []

    def all_reduce(flat: Tensor, *, async_op: bool = False) -> None:  # noqa: ARG001
        sizes.append(flat.numel())
        flat.mul_(2)  # as with a second rank that has the same

    network, rows = model(bf16=False)
    network.model.eval()
    monkeypatch.setattr(cpu_world, "size", 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(gradient_sums, "BUCKET_ELEMENTS", 1000)
    here, expected = step_of(network, rows, cpu_world, 30)
    expected, buckets = copy.deepcopy(expected), len(sizes) - 1
    sizes.clear()
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    monkeypatch.setattr(cpu_world.rank_status, "orphaned", orphaned)
    there, found = step_of(network, rows, cpu_world, 30)
    assert len(sizes) == buckets + 1 > 2
    assert (sizes[-1], there.abandoned) == (5, orphaned)
    if not orphaned:
        assert there.loss == pytest.approx(here.loss, rel=1e-6)
        assert exact.apart(found, {name: part.double() for name, part in expected.items()}) <= 1e-5


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_an_update_waits_for_nothing(model: Any, name: str) -> None:
    network, _ = model(bf16=True)
    trained = list(trained_parameters(network.model).values())
    optimizer = optim.make_optimizer(RunConfig(optimizer=name), trained)
    for _ in range(2):  # the first makes the state
        for parameter in trained:
            parameter.grad = torch.ones_like(parameter)
        counters = [state["step"] for state in optimizer.state.values() if name == "adafactor"]
        with Waits([], counters) as waits, Copies(waits.found):
            optimizer.step()
    assert waits.found == {}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("model", [*MODELS, gemma])
def test_a_gpus_way_gives_the_same_loss_and_gradient(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, model: Any, bf16: bool
) -> None:
    network, rows = model(bf16=bf16)
    network.model.eval()
    here, expected = step_of(network, rows, cpu_world, 40)
    expected = copy.deepcopy(expected)
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    there, found = step_of(network, rows, cpu_world, 40)
    assert there.micro_batches == here.micro_batches > 1
    assert there.loss == pytest.approx(here.loss, rel=1e-6)
    assert there.grad_norm == pytest.approx(here.grad_norm, rel=1e-2 if bf16 else 1e-5)
    assert [row[:2] for row in there.rows] == [row[:2] for row in here.rows]
    assert exact.apart(found, {name: part.double() for name, part in expected.items()}) <= (1e-2 if bf16 else 1e-5)


@pytest.mark.gpu
def test_on_a_gpu_the_host_waits_twice_for_rows_end_to_end(cpu_world: World) -> None:
    require_gpus(1)
    network, rows = varlen_llama(bf16=True, device="cuda")
    set_training_mode(network.model)
    step_of(network, rows, cpu_world, 1)  # the first starts libraries
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result, _ = step_of(network, rows, cpu_world, 1)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert result.micro_batches == len(rows) > 3
    waits = [str(one.message) for one in said if "synchronizing" in str(one.message)]
    assert len(waits) <= 2, waits
