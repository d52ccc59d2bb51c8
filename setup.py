"""What is compiled: the training step's own code in C, and the catalogues of texts; all else is in pyproject.toml.

Both carry the digest of their sources, so that one of another version is known as such. Without a C compiler
the package is installed all the same, and computes by torch what this would.
"""

import platform
import runpy
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
NATIVE = runpy.run_path(str(ROOT / "engine" / "contract" / "native_library.py"))
TEXTS = runpy.run_path(str(ROOT / "engine" / "contract" / "texts.py"))
SOURCES = [str(path.relative_to(ROOT)) for path in NATIVE["sources"]()]


def library(kind: str, flags: list[str]) -> Extension:
    """The library for a kind of processors."""
    return Extension(
        f"engine.cpu._kernels_{kind}",
        [name for name in SOURCES if name.endswith(".c")],
        depends=SOURCES,
        define_macros=[("SOURCE_DIGEST", f'"{NATIVE["digest"]()}"')],
        extra_compile_args=[*NATIVE["COMPILED"], *flags],
        extra_link_args=["-fopenmp"],
        optional=True,
    )


TEXTS["compile_catalogues"]()
setup(ext_modules=[library(*kind) for kind in NATIVE["FLAGS"].get(platform.machine(), {}).items()])
