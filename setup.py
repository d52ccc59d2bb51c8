"""The training step's own code in C, compiled for two kinds of processors; all else is in pyproject.toml.

Each library carries the digest of its source, so that one of another version is known as such. Without a C compiler
the package is installed all the same, and computes by torch what this would.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "engine/cpu/kernels.c"
DIGEST = hashlib.sha256((Path(__file__).parent / SOURCE).read_bytes()).hexdigest()


def kernels(name: str, processors: str) -> Extension:
    """The library `name` for these processors."""
    return Extension(
        f"engine.cpu.{name}",
        [SOURCE],
        define_macros=[("SOURCE_DIGEST", f'"{DIGEST}"')],
        extra_compile_args=["-O3", "-fopenmp", f"-march={processors}"],
        extra_link_args=["-fopenmp"],
        optional=True,
    )


setup(ext_modules=[kernels("_kernels_avx512", "x86-64-v4"), kernels("_kernels_avx2", "x86-64-v3")])
