"""The compiled library: which one is used, and that both sides agree on what passes between them."""

import ctypes

import pytest
import torch

from engine.contract import native_library
from engine.cpu import compiled, native, reference
from engine.cpu.kernels import kernels_for


def test_stale_compiled_code_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(native_library, "library", lambda _kind: native_library.Fault("stale"))
    native._loaded.cache_clear()
    try:
        assert native.kind() == "none"
        assert kernels_for(torch.zeros(1)) is reference
    finally:
        native._loaded.cache_clear()


@pytest.mark.usefixtures("instructions")
def test_a_struct_with_another_memory_layout_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapped(ctypes.Structure):
        _fields_ = [*native.Step._fields_[:-2], *native.Step._fields_[:-3:-1]]

    monkeypatch.setattr(native, "LAYOUTS", {Swapped: "step"})
    found = native.library()
    assert found is not None
    with pytest.raises(RuntimeError, match="struct step"):
        native.prepared(found)


@pytest.mark.usefixtures("instructions")
def test_values_that_c_would_misread_are_refused() -> None:
    x = torch.zeros(4, 8)
    with pytest.raises(ValueError, match="end to end"):
        compiled.normed(x.t(), torch.ones(4), 1e-6)
    with pytest.raises(ValueError, match="float64"):
        compiled.normed(x.double(), torch.ones(8), 1e-6)
