"""The kernel compiled to PTX for every GPU from Ampere on, on a machine that need not have one."""

import hashlib
import re
from dataclasses import dataclass

import torch
import triton
from triton.backends.compiler import GPUTarget

from vqfr_deform_conv.kernel import deform_conv_kernel
from vqfr_deform_conv.operator import constants
from vqfr_deform_conv.tiling import MAX_SHARED_BYTES, Convolution, Tile
from vqfr_media.errors import BackendError

COMPUTE_CAPABILITY = 80
"""Drivers translate PTX of sm_80 for every later GPU; of sm_90 and above Triton makes "sm_90a",
which only that one takes."""
PTX_VERSION = 80
"""CUDA 12.0's; a driver refuses PTX that is newer than itself."""

_TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
_INPUTS, _OUTPUTS = ("x_ptr", "offset_ptr", "mask_ptr", "weight_ptr", "bias_ptr"), ("y_ptr",)
_PARAMETERS = (*_INPUTS, "PIXELS", *_OUTPUTS)


@dataclass(frozen=True)
class CompiledKernel:
    """PTX and how to launch it.

    Parameters are, in order: pointers to x, offset, mask, weight (KH, KW, C, CO) and bias, the
    int32 number of output pixels of the batch, the pointer to y; offset and mask are float32, the
    others the data's type; all pointers are multiples of 16 bytes.
    """

    name: str
    ptx: str
    tile: Tile
    threads: int
    shared_bytes: int


def compile_kernel(
    convolution: Convolution, tile: Tile, *, dtype: torch.dtype, channels_last: bool
) -> CompiledKernel:
    """Compiles the kernel for one convolution of any batch size.

    Args:
        convolution: its shapes.
        tile: how to cut it up.
        dtype: of x, weight, bias and y: float16, bfloat16 or float32.
        channels_last: whether x and y are NHWC in memory.

    Raises:
        BackendError: the installed Triton makes a kernel of it that cannot be launched elsewhere.
    """
    fixed = constants(convolution, tile, channels_last=channels_last)
    signature = dict.fromkeys(fixed, "constexpr") | {
        "PIXELS": "i32",
        "offset_ptr": "*fp32",
        "mask_ptr": "*fp32",
        **{f"{name}_ptr": f"*{_TYPES[dtype]}" for name in ("x", "weight", "bias", "y")},
    }
    order = [*_PARAMETERS, *fixed]
    source = triton.compiler.ASTSource(
        deform_conv_kernel,
        signature={name: signature[name] for name in order},
        constexprs=fixed,
        attrs={
            (number,): [["tt.divisibility", 16]]
            for number, name in enumerate(order)
            if name.endswith("_ptr")
        },
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", COMPUTE_CAPABILITY, 32),
        options={
            "num_warps": tile.warps,
            "num_stages": tile.stages,
            "ptx_version": PTX_VERSION,
        },
    )
    made = compiled.metadata
    if made.shared > MAX_SHARED_BYTES:
        raise _unfit(f"needs {made.shared} bytes of shared memory for {tile}")
    if made.global_scratch_size or made.profile_scratch_size:
        raise _unfit("needs memory that nobody gives it")
    ptx = _without_hidden_parameters(_without_line_numbers(compiled.asm["ptx"]), name=made.name)
    # A plan holds a kernel for each level: under one name they could be taken for one another.
    name = f"{made.name}_{hashlib.sha256(ptx.encode()).hexdigest()[:12]}"
    return CompiledKernel(
        name=name,
        ptx=re.sub(rf"\b{re.escape(made.name)}\b", name, ptx),
        tile=tile,
        threads=32 * made.num_warps,
        shared_bytes=made.shared,
    )


def _without_hidden_parameters(ptx: str, *, name: str) -> str:
    """Cuts off the pointers to scratch memory that Triton appends and this kernel never reads.

    TensorRT passes exactly the parameters it was told of; a launch with fewer than the kernel
    declares fails.
    """
    entry = re.search(rf"(\.visible\s+\.entry\s+{re.escape(name)}\s*\()([^)]*)(\))", ptx)
    if entry is None:
        raise _unfit(f"has no entry {name}")
    declared = [text.strip() for text in entry[2].split(",")]
    kept, hidden = declared[: len(_PARAMETERS)], declared[len(_PARAMETERS) :]
    body = ptx[entry.end() :]
    for text in hidden:
        if re.search(rf"\b{re.escape(text.split()[-1])}\b", body):
            raise _unfit(f"reads its hidden parameter {text}")
    listed = ",\n\t".join(kept)
    return f"{ptx[: entry.start()]}{entry[1]}\n\t{listed}\n{entry[3]}{body}"


def _without_line_numbers(ptx: str) -> str:
    """Cuts off the debug information: it holds the path of kernel.py on this machine."""
    ptx = re.sub(r"^\s*\.section\s+\.debug_\w+\s*\{[^}]*\}\n", "", ptx, flags=re.MULTILINE)
    return re.sub(r"^\s*\.(loc|file)\b.*\n", "", ptx, flags=re.MULTILINE)


def _unfit(reason: str) -> BackendError:
    return BackendError(
        f"the deformable convolution that Triton {triton.__version__} compiles {reason}; "
        "install Triton 3.8"
    )
