"""Where public networks come from: packages, files and pages in a folder of yours. None of their code is in this repository.

    git clone https://github.com/jax-ml/bonsai PACKAGES/bonsai
    git clone https://github.com/imgengineer/JaxVision PACKAGES/JaxVision
    git clone https://github.com/google/flax PACKAGES/flax
    git clone --branch v0.12.1 https://github.com/google/flax PACKAGES/flax-0.12.1  # the last that has examples/lm1b_nnx

Widths and depths are small where a network takes them as arguments, so that a laptop traces each in seconds.
"""

import ast
import importlib
import importlib.util
import re
import sys
import types
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import nnx

Build = Callable[[], nnx.Module]


def packages() -> Path:
    """The folder, which is the first argument of the script; what is in it can be imported from now on."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"{sys.modules['__main__'].__doc__}\n{__doc__}")
    folder = Path(sys.argv[1])
    if str(folder / "bonsai") not in sys.path:
        sys.path[:0] = [str(folder / name) for name in ("bonsai", "JaxVision")]
    return folder


def _without(*names: str) -> None:
    """Lets code be imported without packages that it reads data and writes logs with."""
    for unused in names:
        sys.modules.setdefault(unused, unittest.mock.MagicMock())


def bonsai(name: str, network: str, config: Callable[[Any], Any]) -> Build:
    """A network of bonsai: its module, its class, and its configuration from the module."""

    def build() -> nnx.Module:
        module = importlib.import_module(f"bonsai.models.{name}.modeling")
        return getattr(module, network)(config(module), rngs=nnx.Rngs(0))

    return build


def jaxvision(name: str, network: str, **arguments: Any) -> Build:
    """A network of JaxVision: its module, and its function with arguments."""

    def build() -> nnx.Module:
        _without("albumentations", "cv2", "grain", "grain.python")
        with flax.config.temp_flip_flag("pytree_module", False):  # lists of layers, as Flax had them until 0.11
            return getattr(importlib.import_module(f"jaxvision.models.{name}"), network)(rngs=nnx.Rngs(0), **arguments)

    return build


def of_file(path: str, make: Callable[[Any], nnx.Module]) -> Build:
    """A network that is made from what a file defines, which may import others beside it."""

    def build() -> nnx.Module:
        _without("absl", "ml_collections", "tensorflow", "tensorflow_datasets", "flax.metrics.tensorboard")
        file = packages() / path
        spec = importlib.util.spec_from_file_location(f"{file.parent.name}_{file.stem}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # dataclasses look themselves up
        sys.path.insert(0, str(file.parent))
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(file.parent))
        with nnx.use_eager_sharding(False):  # names of axes of a mesh, which there is none of here
            return make(module)

    return build


def of_page(path: str, make: Callable[[Any], nnx.Module]) -> Build:
    """A network that is made from the classes that a page of a documentation defines; nothing else of the page is run."""

    def build() -> nnx.Module:
        module = types.ModuleType(Path(path).stem)
        sys.modules[module.__name__] = module  # dataclasses look themselves up
        definitions = ast.Module(_definitions((packages() / path).read_text()), type_ignores=[])
        exec(compile(definitions, path, "exec"), vars(module))  # of a page that the user has chosen
        return make(module)

    return build


_CELL = re.compile(r"^```(?:python|\{code-cell\} ipython3)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_IMPORTED = {"dataclasses", "flax", "functools", "jax", "numpy", "typing"}


def _definitions(text: str) -> list[ast.stmt]:
    """The networks, their configurations, and the imports for these."""
    found: list[ast.stmt] = []
    for cell in _CELL.findall(text):
        code = re.sub(r"\A---\n.*?^---\n", "", cell, flags=re.MULTILINE | re.DOTALL)  # options of the cell
        try:
            statements = ast.parse(code).body
        except SyntaxError:  # a command of the notebook
            continue
        for statement in statements:
            text_of = ast.unparse(statement)
            if isinstance(statement, ast.ClassDef):
                bases = [ast.unparse(base) for base in statement.bases]
                if statement.decorator_list or any(base.startswith("nnx.") for base in bases):
                    found.append(statement)
            elif isinstance(statement, ast.Import | ast.ImportFrom) and text_of.split()[1].split(".")[0] in _IMPORTED:
                found.append(statement)
    return found


class TokensAlone(nnx.Module):
    """A wrapper, as a user writes it, for gemma, which takes positions, a cache and a mask beside the tokens."""

    def __init__(self, network: Any, module: Any) -> None:
        """`module` is that which defines the network, with functions that make its other arguments."""
        self.network, self.module = network, module

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Tokens [batch, length], 0 where there are none, to logits [batch, length, vocabulary]."""
        counted = tokens > 0
        positions, mask = self.module.build_positions_from_mask(counted), self.module.make_causal_attn_mask(counted)
        return self.network(tokens, positions, None, mask, rngs=rngs)[0]


SIDE, VOCABULARY, LENGTH = 32, 24, 16


def image(height: int, width: int, channels: int) -> jax.ShapeDtypeStruct:
    """An example of a network of images."""
    return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)


def tokens() -> jax.ShapeDtypeStruct:
    """An example of a language model."""
    return jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)
