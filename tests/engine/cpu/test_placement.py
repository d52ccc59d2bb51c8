import torch

from engine.cpu.placement import all_on, fetched, keeping_casts, laid, parted, uploaded


def test_what_goes_to_a_device_in_one_copy_comes_out_as_it_was() -> None:
    given = [torch.arange(6).view(2, 3), torch.tensor([], dtype=torch.int64), torch.tensor([2**31 - 1, -100])]
    found = parted(laid(given), given)
    assert laid(given).dtype == torch.int32
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(found, given, strict=True))


def test_shapes_are_kept_elsewhere_and_nothing_is_copied_here() -> None:
    given = [torch.arange(6).view(2, 3), torch.arange(4)]
    found = uploaded(given, torch.device("meta"))
    assert [(part.device.type, part.shape) for part in found] == [("meta", (2, 3)), ("meta", (4,))]
    assert uploaded(given, torch.device("cpu")) is given


def test_a_learning_weight_is_cast_once_until_all_is_done() -> None:
    weight, x = torch.nn.Parameter(torch.eye(2)), torch.ones(1, 2)

    def product() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return x @ weight

    with keeping_casts():
        for _ in range(3):
            product().sum().backward()
        with torch.no_grad():
            weight.mul_(2)
        assert float(product().detach().sum()) == 2  # cast before it changed
    assert float(product().detach().sum()) == 4
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.full((2, 2), 3.0))


def test_what_is_not_on_a_device_gets_there_by_one_copy() -> None:
    meta, there = torch.device("meta"), torch.ones(2, 3, device="meta")
    found = all_on([torch.ones(1, 3), there, torch.ones(4, 3)], meta)
    assert [(part.device, len(part)) for part in found] == [(meta, 1), (meta, 2), (meta, 4)]
    assert found[1] is there
    assert found[0].untyped_storage().nbytes() == 5 * 3 * 4
    given = [torch.ones(1), torch.ones(2)]
    assert all_on(given, torch.device("cpu")) is given


def test_what_is_fetched_is_what_was_there() -> None:
    values = torch.arange(6).view(2, 3)
    assert torch.equal(fetched(values)(), values)
