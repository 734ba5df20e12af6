"""What is known of a GPU before anything runs on it, and why there may be none."""

import pytest
import torch
from torch import Tensor

from tests.vqfr_engines.small import tiny_v1
from vqfr_media.backends.batching import is_out_of_memory
from vqfr_media.backends.gpu_memory import fitting_engine
from vqfr_media.backends.nvidia_gpu import check_bfloat16, has_code, missing_gpu
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.errors import BackendError, EngineError, EngineMemoryError
from vqfr_media.network.blocks import Branches
from vqfr_media.network.vqfr_v1 import VqfrV1

# Of PyTorch 2.14 for CUDA 13.0.
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "known", "runs"),
    [
        ((6, 1), WHEEL, False),  # GTX 10
        ((7, 0), WHEEL, False),  # V100: the same major version, and older
        ((7, 5), WHEEL, True),
        ((8, 9), WHEEL, True),  # by the code for 8.6
        ((9, 0), WHEEL, True),
        ((12, 1), WHEEL, True),
        ((11, 0), ["sm_90", "compute_90"], True),  # translated by the driver
        ((11, 0), ["sm_90", "sm_100"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120a"], False),
        ((6, 1), [], True),  # nothing is known
    ],
)
def test_code_runs_where_nvidia_says_it_does(
    capability: tuple[int, int], known: list[str], runs: bool
) -> None:
    assert has_code(capability, known) is runs


@pytest.mark.parametrize(
    ("built", "driver", "says"),
    [
        (None, None, "this PyTorch is built without CUDA"),
        (
            None,
            "CUDA 13.0",
            "this PyTorch is built without CUDA, and NVIDIA's driver is here: install one with "
            "CUDA",
        ),
        ("13.0", None, "no NVIDIA GPU or driver"),
        (
            "13.0",
            "CUDA 12.4",
            "NVIDIA's driver knows CUDA 12.4 and this PyTorch is built with CUDA 13.0: update the "
            "driver, or install a PyTorch for CUDA 12.4",
        ),
        (
            "13.2",
            "CUDA 13.0",
            "NVIDIA's driver is here, but PyTorch sees no GPU: nvidia-smi must list it",
        ),
    ],
)
def test_why_there_is_no_gpu(built: str | None, driver: str | None, says: str) -> None:
    assert missing_gpu(built=built, driver=driver) == says


def test_bfloat16_begins_with_ampere() -> None:
    check_bfloat16("NVIDIA A10", (8, 6))
    with pytest.raises(
        BackendError, match=r"^NVIDIA GeForce RTX 2080 \(compute capability 7\.5\) .*float16"
    ):
        check_bfloat16("NVIDIA GeForce RTX 2080", (7, 5))


SAID = (
    "GET was unable to find an engine to execute this computation",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'",
)


@pytest.mark.parametrize("said", SAID)
def test_a_lack_of_memory_is_recognised_however_it_is_said(said: str) -> None:
    class Exhausted(VqfrV1):
        def decode(self, image: Tensor, latent: Tensor) -> Branches:
            if len(image) > 2:
                raise RuntimeError(said)
            return super().decode(image, latent)

    torch.manual_seed(0)
    network = Exhausted(tiny_v1().config)
    engine = TorchEngine(network, model="small", device=torch.device("cpu"), batch_size=4)
    crops = torch.rand(1, 3, network.config.image_size, network.config.image_size)
    with pytest.raises(EngineMemoryError, match="use --batch-size 1; "):
        fitting_engine(engine, crops, may_halve=False)
    assert fitting_engine(engine, crops, may_halve=True).spec.batch_size == 2


def test_other_failures_are_one_line_and_no_lack_of_memory() -> None:
    error = RuntimeError("CUDA error: an illegal memory access\nCompile with `TORCH_USE_CUDA_DSA`")
    assert not is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("CUDA error: out of memory"))

    class Failing(VqfrV1):
        def encode(self, image: Tensor) -> Tensor:
            del image
            raise error

    network = Failing(tiny_v1().config)
    engine = TorchEngine(network, model="small", device=torch.device("cpu"), batch_size=1)
    with pytest.raises(EngineError, match=r"an illegal memory access$") as caught:
        engine.encode(torch.zeros(1, 3, network.config.image_size, network.config.image_size))
    assert not isinstance(caught.value, EngineMemoryError)
