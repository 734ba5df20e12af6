"""A hash of the code of ours that decides what an engine computes.

It is part of an engine's identity: after a change of that code, kept engines are built again. Only
code counts. A corrected comment or docstring changes nothing that an engine computes.
"""

import ast
import hashlib
import importlib.resources
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never

from vqfr_media.errors import BackendError

if TYPE_CHECKING:
    from vqfr_media.manifest import BuiltBackend

NETWORK = (
    "vqfr_media.network.band_gains",
    "vqfr_media.network.bands",
    "vqfr_media.network.blocks",
    "vqfr_media.network.checkpoint",
    "vqfr_media.network.config",
    "vqfr_media.network.deform",
    "vqfr_media.network.export_modules",
    "vqfr_media.network.precision",
    "vqfr_media.network.vqfr_v1",
    "vqfr_media.network.vqfr_v2",
    "vqfr_media.network.vqgan",
    "vqfr_media.network.vqgan_v2",
)
"""From the weights file to the modules that are exported."""
DEFORM_CONV = (
    "vqfr_deform_conv.kernel",
    "vqfr_deform_conv.operator",
    "vqfr_deform_conv.tiling",
)
"""The deformable convolution as PyTorch runs and compiles it on NVIDIA GPUs."""
DEFORM_CONV_TENSORRT = (
    "vqfr_deform_conv.converter",
    "vqfr_deform_conv.ptx",
    "vqfr_deform_conv.tensorrt_plugin",
)
"""Its way into TensorRT engines. The PTX itself follows from these and from Triton's version."""


def modules_of(backend: "BuiltBackend") -> tuple[str, ...]:
    """Names the modules whose code decides what engines of `backend` compute."""
    match backend:
        case "openvino":
            return (*NETWORK, "vqfr_engines.openvino")
        case "inductor":
            return (*NETWORK, *DEFORM_CONV, "vqfr_engines.inductor")
        case "tensorrt":
            builder = ("vqfr_engines.tensorrt", "vqfr_engines.tensorrt_graph")
            return (*NETWORK, *DEFORM_CONV, *DEFORM_CONV_TENSORRT, *builder)
        case _:
            assert_never(backend)


def code_sha256(modules: Sequence[str]) -> str:
    """Hashes the names and the code of `modules`, in their order; SHA-256 in hexadecimal.

    Args:
        modules: dotted names; their packages are imported, they themselves are only read.

    Raises:
        ValueError: there are none.
        BackendError: a module has no source file here.
    """
    if not modules:
        raise ValueError("there must be modules to hash, got none")
    digest = hashlib.sha256()
    for module in modules:
        code = _code(_source(module))
        digest.update(f"{module} {len(code)}\n".encode())
        digest.update(code)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _code(source: bytes) -> bytes:
    """Returns what counts of a module's source; each engine asks for the same dozen."""
    return _dumped(ast.parse(source)).encode()


def _source(module: str) -> bytes:
    package, _, name = module.rpartition(".")
    try:
        return importlib.resources.files(package).joinpath(f"{name}.py").read_bytes()
    except (OSError, ModuleNotFoundError) as error:
        raise BackendError(
            f"the source of {module} is not here, and engines are known by it: "
            "install vqfr-media again, or use --backend torch"
        ) from error


def _dumped(value: object) -> str:
    """Writes a syntax tree as text, without strings that stand alone and without positions.

    Not `ast.dump`: what it leaves out differs between versions of Python, and engines would be
    built again with each of them.
    """
    match value:
        case ast.AST():
            fields = (
                f"{name}={_dumped(child)}"
                for name, child in ast.iter_fields(value)
                if child is not None and child != []
            )
            return f"{type(value).__name__}({', '.join(fields)})"
        case list():
            return f"[{', '.join(_dumped(child) for child in value if not _is_docstring(child))}]"
        case _:
            return repr(value)


def _is_docstring(node: object) -> bool:
    """Recognises a docstring, of a field too: a string that is a statement of its own."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
