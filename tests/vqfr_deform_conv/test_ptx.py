"""The PTX that goes into TensorRT engines: what it asks for, and which GPUs take it."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import triton
from vqfr_deform_conv import ptx
from vqfr_deform_conv.ptx import CompiledKernel, compile_kernel
from vqfr_deform_conv.tiling import MAX_SHARED_BYTES, TACTICS, Convolution, tiles

from vqfr_media.errors import BackendError

ASSEMBLERS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
GPUS = {
    "sm_80": "ptxas",
    "sm_86": "ptxas",
    "sm_89": "ptxas",
    "sm_90": "ptxas",
    "sm_100": "ptxas-blackwell",
    "sm_120": "ptxas-blackwell",
}


def level(channels: int, size: int, *, groups: int = 4) -> Convolution:
    """One of the published networks' convolutions."""
    return Convolution(
        channels=channels,
        height=size,
        width=size,
        out_channels=channels,
        out_height=size,
        out_width=size,
        offset_groups=groups,
        kernel_height=3,
        kernel_width=3,
        stride=1,
        padding=1,
        dilation=1,
    )


def compiled(
    convolution: Convolution, tactic: int, *, dtype: torch.dtype, channels_last: bool
) -> CompiledKernel:
    tile = tiles(convolution, element_bytes=dtype.itemsize)[tactic]
    return compile_kernel(convolution, tile, dtype=dtype, channels_last=channels_last)


def assemble(kernel: CompiledKernel, gpu: str, folder: Path) -> str:
    """What ptxas says of the kernel for one GPU."""
    source = folder / "kernel.ptx"
    source.write_text(kernel.ptx)
    done = subprocess.run(
        [ASSEMBLERS / GPUS[gpu], "-v", "--gpu-name", gpu, source, "-o", folder / "kernel.cubin"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def parameters(text: str, name: str) -> list[str]:
    entry = re.search(rf"\.entry {name}\(([^)]*)\)", text)
    assert entry is not None
    return [line.strip().split()[1] for line in entry[1].split(",")]


@pytest.mark.parametrize("gpu", GPUS)
def test_every_gpu_since_ampere_takes_it(gpu: str, tmp_path: Path) -> None:
    kernel = compiled(level(256, 128), 0, dtype=torch.float16, channels_last=True)
    said = assemble(kernel, gpu, tmp_path)
    assert "0 bytes spill stores, 0 bytes spill loads" in said


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_what_it_asks_for(dtype: torch.dtype, channels_last: bool, tmp_path: Path) -> None:
    convolution = level(128, 512)
    kernel = compiled(convolution, 0, dtype=dtype, channels_last=channels_last)
    header = re.findall(r"^\.(version|target) (\S+)$", kernel.ptx, flags=re.MULTILINE)
    assert header == [("version", "8.0"), ("target", "sm_80")]
    # Five inputs, the number of pixels, one output; what Triton adds is gone.
    assert parameters(kernel.ptx, kernel.name) == [*[".u64"] * 5, ".u32", ".u64"]
    assert kernel.shared_bytes <= MAX_SHARED_BYTES
    assert kernel.threads == 32 * kernel.tile.warps
    assert f".reqntid {kernel.threads}\n" in kernel.ptx
    assert "0 bytes spill stores" in assemble(kernel, "sm_90", tmp_path)
    if dtype != torch.float32:
        assert "mma.sync" in kernel.ptx
    else:
        assert "mma.sync" not in kernel.ptx  # tensor cores would round float32 to TF32
    if channels_last:
        assert "st.global.v4" in kernel.ptx


def test_samples_come_in_words_of_16_bytes_in_nhwc() -> None:
    kernel = compiled(level(128, 512), 0, dtype=torch.float16, channels_last=True)
    widths = re.findall(r"cp\.async\.cg\.\S+ .*?(0x\w+)", kernel.ptx)
    # Four neighbours and the weights.
    assert len(widths) >= 5
    assert set(widths) == {"0x10"}


def test_each_kernel_has_a_name_of_its_own() -> None:
    kernels = [
        compiled(level(64, side), tactic, dtype=torch.float16, channels_last=True)
        for side, tactic in ((32, 0), (32, 4), (64, 4), (64, 4))
    ]
    first, second, third, again = (kernel.name for kernel in kernels)
    assert len({first, second, third}) == 3
    assert third == again
    for kernel in kernels:
        assert re.fullmatch(r"deform_conv_kernel_[0-9a-f]{12}", kernel.name)
        assert re.findall(r"\.entry (\w+)", kernel.ptx) == [kernel.name]


def test_it_says_nothing_of_this_machine() -> None:
    kernel = compiled(level(128, 512), 0, dtype=torch.float16, channels_last=True)
    assert str(Path(ptx.__file__).parent) not in kernel.ptx
    assert "kernel.py" not in re.sub(r"//.*", "", kernel.ptx)
    assert ".debug" not in kernel.ptx


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "size", "groups"),
    [(128, 512, 4), (256, 128, 4), (512, 16, 4), (64, 512, 4), (192, 16, 2), (32, 128, 2)],
)
def test_every_tile_of_the_published_levels_fits(
    channels: int, size: int, groups: int, tmp_path: Path
) -> None:
    convolution = level(channels, size, groups=groups)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for channels_last in (False, True):
            for tactic in range(TACTICS):
                kernel = compiled(convolution, tactic, dtype=dtype, channels_last=channels_last)
                assert kernel.shared_bytes <= MAX_SHARED_BYTES
                assert "0 bytes spill stores" in assemble(kernel, "sm_90", tmp_path)


def test_a_hidden_parameter_that_is_read_is_refused() -> None:
    listed = ",\n".join(f".param .u64 k_param_{number}" for number in range(8))
    text = f".visible .entry k(\n{listed}\n)\n{{ ld.param.b64 %rd1, [k_param_NUMBER]; }}"
    kept = ptx._without_hidden_parameters(text.replace("NUMBER", "6"), name="k")
    assert "k_param_7" not in kept
    with pytest.raises(BackendError, match=r"reads its hidden parameter .*k_param_7; install"):
        ptx._without_hidden_parameters(text.replace("NUMBER", "7"), name="k")
    with pytest.raises(BackendError, match="has no entry other"):
        ptx._without_hidden_parameters(text, name="other")


def test_a_tile_too_large_is_refused() -> None:
    convolution = level(256, 128)
    (largest, *_) = tiles(convolution, element_bytes=2)
    with pytest.raises(BackendError, match="bytes of shared memory for Tile"):
        compile_kernel(
            convolution,
            replace(largest, pixels=128, channels=64),
            dtype=torch.float16,
            channels_last=True,
        )
