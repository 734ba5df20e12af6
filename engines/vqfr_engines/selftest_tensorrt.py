"""The points that only a GPU with TensorRT can answer; see docs/tensorrt.md."""

import shutil
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from vqfr_engines import tensorrt
from vqfr_engines.engine_checks import (
    CheckFailedError,
    Findings,
    Point,
    check_batch_invariance,
    check_parity,
    milliseconds_per_face,
)
from vqfr_engines.selftest_engine import v2_in_its_batch
from vqfr_engines.selftest_kernels import check_published_kernels
from vqfr_engines.selftest_plugin import (
    FACES,
    AloneInputs,
    alone_inputs,
    alone_plan,
    convolutions_of,
    data_formats,
    is_channels_last,
    layers_of,
    num_reformats,
)
from vqfr_engines.tensorrt_graph import exported_modules
from vqfr_media.backends.batching import spec_of
from vqfr_media.backends.cuda_driver import load_ptx
from vqfr_media.backends.tensorrt_engine import (
    DECODER,
    ENCODER,
    PlanTensors,
    TensorrtEngine,
    TensorrtPlan,
    plan_tensors,
)
from vqfr_media.backends.tensorrt_library import cuda_device
from vqfr_media.errors import BackendError
from vqfr_media.manifest import Precision
from vqfr_media.network.checkpoint import load_model
from vqfr_media.network.precision import to_mixed_precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

_PRECISION: Precision = "float16"
# Rounding of one float16 result; coordinates in float16 would make it 1.7e-2 at this size.
ALONE_RMS = 2e-3
# Around each deformable convolution: its data in and out, offset and mask.
_REFORMATS_EACH = 4
_LEAK_BYTES = 16 * 2**20
_LOADS = 4
_SAME_DB = 40.0


class TensorrtChecks:
    """Builds what the points need into a folder, each engine once, for later processes too."""

    def __init__(self, folder: Path, *, device: str, model: str, weights: Path) -> None:
        self._folder, self._device = folder, device
        self._model, self._weights = model, weights

    def points(self) -> Sequence[Point]:
        """Lists the points, numbered as in docs/tensorrt.md."""
        return (
            ("the driver compiles the plugin's PTX", self.driver_takes_ptx),
            ("TensorRT runs the plugin on channels-last data", self.layout_is_kept),
            ("plugin and engine compute what PyTorch computes", self.is_exact),
            ("encoder and decoder run as CUDA graphs", self.is_captured),
            ("what the layers kept in float32 cost", self.float32_layers_cost),
            ("several batch sizes build and leave no memory behind", self.leaves_nothing),
            ("plans for other GPUs and versions work", self.is_portable),
            ("our kernel at every level and tile of v1 and v2", self.kernels),
            ("v2 builds and runs in its default batch", self.v2_runs),
        )

    def driver_takes_ptx(self) -> str:
        """Compiles every kernel the engine could hold, and has the driver take each."""
        from vqfr_deform_conv.ptx import compile_kernel
        from vqfr_deform_conv.tiling import tiles

        network = to_mixed_precision(self._network(), _PRECISION)
        *_, decoder = exported_modules(network, batch_size=1, device=torch.device("cpu"))
        kernels = [
            compile_kernel(convolution, tile, dtype=torch.float16, channels_last=channels_last)
            for convolution in convolutions_of(decoder.program.graph)
            for tile in tiles(convolution, element_bytes=2)
            for channels_last in (True, False)
        ]
        largest = max(kernel.shared_bytes for kernel in kernels)
        made = f"{len(kernels)} kernels, up to {largest} bytes of shared memory"
        try:
            device = cuda_device(self._device)
            with torch.cuda.device(device):
                torch.zeros(1, device=device)  # makes the context current
                for kernel in kernels:
                    load_ptx(kernel.ptx, kernel.name)
        except BackendError as error:
            raise BackendError(f"{made}, compiled but not loaded: {error}") from error
        return f"{made}, all loaded"

    def layout_is_kept(self) -> str:
        """Reads off the plan how the plugin gets its data, and how often layouts change."""
        layers = layers_of(self._alone)
        formats = data_formats(layers)
        seen = f"plugin alone: {formats or 'no formats told'}, {num_reformats(layers)} reformats"
        if formats is not None and not all(is_channels_last(each) for each in formats):
            raise CheckFailedError(f"{seen}; channels last was offered and not taken")
        layers = layers_of(self._plan(self._engine_folder, DECODER))
        count = sum("deform_conv2d" in layer["Name"] for layer in layers)
        reformats = num_reformats(layers)
        seen = f"{seen}; decoder: {reformats} reformats among {len(layers)} layers"
        if reformats > _REFORMATS_EACH * max(count, 1):
            raise CheckFailedError(f"{seen}, for {count} deformable convolutions")
        return seen

    def is_exact(self) -> str:
        """Compares the plugin with torchvision, and the engine with the network, in float32."""
        inputs, expected = self._alone_inputs, self._alone_inputs.expected()
        got = self._alone(x=inputs.x, offset=inputs.offset, mask=inputs.mask).cpu()
        error = float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())
        alone = f"plugin within {error:.1e} RMS of torchvision"
        if not error < ALONE_RMS:
            raise CheckFailedError(f"{alone}, {ALONE_RMS:.0e} may be")
        parity = check_parity(self._engine, self._network())
        return f"{alone}; {parity}; {check_batch_invariance(self._engine)}"

    def is_captured(self) -> str:
        """Compares runs of a captured graph with runs without one, bit for bit."""
        for name in (ENCODER, DECODER):
            graph = self._plan(self._engine_folder, name)
            if not graph.is_captured:
                raise CheckFailedError(f"{name} cannot be captured; the log says why")
            plain = self._plan(self._engine_folder, name, capture=False)
            inputs = self._random(name)
            for _ in range(3):
                if not torch.equal(graph(**inputs), plain(**inputs)):
                    raise CheckFailedError(f"{name} gives other bits as a graph")
        return "encoder and decoder, the same bits as without, three times"

    def float32_layers_cost(self) -> str:
        """Times the engine beside one with norms in float16, and one with TF32 in the layers
        that are kept in float32."""
        without = norms_in_float16(to_mixed_precision(self._network(), _PRECISION))
        halved = self._built("halved", without, check_float32=False)
        tf32 = tensorrt.BuilderOptions(allow_tf32=True)
        rounded = self._built("tf32", to_mixed_precision(self._network(), _PRECISION), options=tf32)
        told = []
        for name, engine in (
            ("as built", self._engine),
            ("norms in float16", halved),
            ("float32 layers in TF32", rounded),
        ):
            encode, decode = milliseconds_per_face(engine)
            told.append(f"{name} {encode:.2f} + {decode:.2f}")
        return f"ms to encode + decode a face: {', '.join(told)}"

    def leaves_nothing(self) -> str:
        """Builds two batch sizes, then loads, runs and drops them again and again."""
        taken = []
        for batch_size in (1, 4):
            started = time.perf_counter()
            network = to_mixed_precision(self._network(), _PRECISION)
            self._built(f"batch{batch_size}", network, batch_size=batch_size)
            taken.append(f"{batch_size} faces {time.perf_counter() - started:.0f} s")
        free = []
        for _ in range(_LOADS):
            for batch_size in (1, 4):
                engine = self._load(f"batch{batch_size}", batch_size=batch_size)
                milliseconds_per_face(engine)
                del engine
            torch.cuda.empty_cache()
            free.append(torch.cuda.mem_get_info(cuda_device(self._device))[0])
        lost = free[0] - free[-1]
        told = f"built in {', '.join(taken)}; {lost / 2**20:.0f} MiB lost over {_LOADS} loads"
        if lost > _LEAK_BYTES:
            raise CheckFailedError(told)
        return told

    def is_portable(self) -> str:
        """Builds for all GPUs from Ampere on, and for later TensorRT versions."""
        inputs = self._random(DECODER)
        expected = self._plan(self._engine_folder, DECODER)(**inputs)
        told = []
        for name, options in (
            ("AMPERE_PLUS", tensorrt.BuilderOptions(hardware_compatible=True)),
            ("VERSION_COMPATIBLE", tensorrt.BuilderOptions(version_compatible=True)),
        ):
            self._built(name, to_mixed_precision(self._network(), _PRECISION), options=options)
            got = self._plan(self._folder / name, DECODER)(**inputs)
            decibels = -10 * float((got - expected).square().mean().clamp(min=1e-12).log10())
            if decibels < _SAME_DB:
                raise CheckFailedError(f"{name} is {decibels:.1f} dB from the plan for this GPU")
            told.append(f"{name} {decibels:.1f} dB")
        return f"{', '.join(told)} from the plan for this GPU alone"

    def kernels(self) -> Findings:
        """Compares every tile of our kernel with torchvision, as Triton compiles it for the GPU."""
        return check_published_kernels(self._device)

    def v2_runs(self) -> Findings:
        """Builds v2 with random weights and runs a full batch."""
        tensorrt.check(self._device)
        return v2_in_its_batch(self._folder / "v2", backend="tensorrt", device=self._device)

    def _network(self) -> VqfrV1 | VqfrV2:
        return load_model(self._weights, model=self._model)

    @cached_property
    def _alone_inputs(self) -> AloneInputs:
        return alone_inputs()

    @cached_property
    def _alone(self) -> TensorrtPlan:
        tensorrt.check(self._device)
        path = self._folder / "alone.plan"
        return alone_plan(path, self._alone_inputs, device=cuda_device(self._device))

    @cached_property
    def _engine(self) -> TensorrtEngine:
        return self._built("engine", to_mixed_precision(self._network(), _PRECISION))

    @property
    def _engine_folder(self) -> Path:
        return self._folder / "engine"

    def _built(
        self,
        name: str,
        network: VqfrV1 | VqfrV2,
        *,
        batch_size: int = FACES,
        options: tensorrt.BuilderOptions | None = None,
        check_float32: bool = True,
    ) -> TensorrtEngine:
        tensorrt.check(self._device)
        folder = self._folder / name
        complete = self._folder / f"{name}.complete"
        if not complete.exists():  # else an earlier point's process has built it
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            tensorrt.write_plans(
                network,
                folder,
                batch_size=batch_size,
                device=cuda_device(self._device),
                options=options or tensorrt.BuilderOptions(),
                check_float32=check_float32,
            )
            complete.touch()
        return self._load(name, batch_size=batch_size)

    def _load(self, name: str, *, batch_size: int) -> TensorrtEngine:
        spec = spec_of(
            self._network(),
            model=self._model,
            batch_size=batch_size,
            precision=_PRECISION,
            device=self._device,
        )
        return TensorrtEngine(self._folder / name, spec)

    def _plan(self, folder: Path, name: str, *, capture: bool = True) -> TensorrtPlan:
        tensors = self._tensors(name)
        return TensorrtPlan(
            folder / name,
            device=cuda_device(self._device),
            inputs=tensors.inputs,
            outputs=tensors.outputs,
            capture=capture,
        )

    def _tensors(self, name: str) -> PlanTensors:
        return plan_tensors(self._engine.spec)[name]

    def _random(self, name: str) -> dict[str, Tensor]:
        device = cuda_device(self._device)
        shapes = self._tensors(name).inputs
        return {tensor: torch.rand(shape, device=device) for tensor, shape in shapes.items()}


def norms_in_float16[N: nn.Module](network: N) -> N:
    """Puts a mixed-precision network's normalisations into float16, to see what float32 costs them.

    Those inside the encoder's and the decoder's last layers stay, as do all other layers that are
    kept in float32.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) and module._forward_hooks:
            module._forward_pre_hooks.clear()  # the casts that `to_mixed_precision` put around it
            module._forward_hooks.clear()
            module.half()
    return network
