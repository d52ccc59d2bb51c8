"""Tests that need a GPU, which are marked `gpu` too: the benchmark of a GPU runs them there."""

import pytest
import torch

on_gpus = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: there is no GPU")
