"""Milliseconds per face of every backend that is here, beside eager PyTorch, in one run.

    python -m benchmarks.engines [--models lite v2 v1] [--backends openvino inductor tensorrt]
                                 [--precisions float32 bfloat16] [--batch-sizes 1] [--repeats 5]

All engines are loaded, then they take turns, so that a busy machine slows all alike; each figure is
the least of its repeats. v1 and v2 have random weights, which changes no time. On an NVIDIA GPU it
also tells peak memory and the share of the GPU's arithmetic limit. Writes results/engines_cpu.json
or results/engines_GPU.json.
"""

import argparse
import copy
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from vqfr_engines.bench import run_seconds
from vqfr_engines.random_networks import published_config, random_network
from vqfr_engines.request import builder_of, open_engine

from benchmarks import record
from vqfr_media import weights
from vqfr_media.backends.batching import spec_of
from vqfr_media.backends.torch_engine import TorchEngine
from vqfr_media.engine import Engine
from vqfr_media.errors import BackendError, EngineError
from vqfr_media.manifest import BuiltBackend, Precision
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.deform import ModulatedDeformConv
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2

type Network = VqfrV1 | VqfrV2

# Dense multiply-adds without tensor-core sparsity, operations per second, as NVIDIA's data sheets
# for the SXM boards give them: float16 and bfloat16, float32.
LIMITS = {"H100": (989e12, 67e12), "H200": (989e12, 67e12), "A100": (312e12, 19.5e12)}


@dataclass(frozen=True)
class Row:
    """One engine's figures, per face."""

    model: str
    backend: str
    precision: str
    batch_size: int
    encode_ms: float
    decode_ms: float
    peak_mib: float | None
    """Of PyTorch's allocator; what TensorRT takes for itself is not in it."""
    share_of_limit: float | None
    """Of the GPU's arithmetic, in this precision; None where its limit is not known here."""

    @property
    def both_ms(self) -> float:
        """A face's whole way."""
        return self.encode_ms + self.decode_ms


def network_of(model: str) -> Network:
    """Returns the bundled lite; v1 and v2 with random weights and warps that move."""
    if model == "lite":
        return load_network(weights.find("lite", offline=True))
    return random_network(published_config(model))


def operations(network: Network) -> float:
    """Additions and multiplications for one face; a deformable convolution as a plain one."""
    size = network.config.image_size
    images = torch.zeros(1, 3, size, size, device="meta")
    on_meta = copy.deepcopy(network).to("meta")
    warps = 0.0

    def count(module: ModulatedDeformConv, given: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal warps
        warps += 2.0 * module.weight.numel() * given[0].shape[2] * given[0].shape[3]

    for module in on_meta.modules():
        if isinstance(module, ModulatedDeformConv):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if isinstance(on_meta, VqfrV2):
            on_meta(images, fidelity=0.5)
        else:
            on_meta(images)
    return float(counter.get_total_flops()) + warps


def engines_of(
    model: str, network: Network, options: argparse.Namespace, device: torch.device, folder: Path
) -> list[Engine]:
    """Returns eager PyTorch and every engine that can be built here, each batch size."""
    found: list[Engine] = []
    for batch_size in options.batch_sizes:
        eager = copy.deepcopy(network)
        found.append(TorchEngine(eager, model=model, device=device, batch_size=batch_size))
        for backend in options.backends:
            for precision in options.precisions:
                place = folder / f"{model}-{backend}-{precision}-{batch_size}"
                place.mkdir()
                spec = spec_of(
                    network,
                    model=model,
                    batch_size=batch_size,
                    precision=precision,
                    device=str(device),
                )
                try:
                    builder_of(backend).check(str(device))
                    builder_of(backend).build(
                        copy.deepcopy(network),
                        place,
                        precision=precision,
                        batch_size=batch_size,
                        device=str(device),
                    )
                    found.append(open_engine(place, backend, spec))
                except (BackendError, EngineError) as error:
                    print(f"{model} {backend} {precision} x{batch_size} left out: {error}")
    return found


def backend_of(engine: Engine) -> str:
    """Names the backend (torch, openvino ...) by the engine's class."""
    return type(engine).__name__.removesuffix("Engine").lower()


def rows_of(
    engines: list[Engine], network: Network, device: torch.device, repeats: int
) -> list[Row]:
    """Times the engines in turns."""
    torch.manual_seed(0)
    least = {index: [float("inf")] * 2 for index in range(len(engines))}
    peaks = dict.fromkeys(least, 0.0)
    work = operations(network)
    for _ in range(repeats + 1):  # the first also warms up
        for index, engine in enumerate(engines):
            size, batch = engine.spec.size, engine.spec.batch_size
            crops = torch.rand(batch, 3, size, size, device=device)
            latents = torch.randn(batch, *engine.spec.latent_shape, device=device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            both = (
                lambda engine=engine, crops=crops: engine.encode(crops),
                lambda engine=engine, crops=crops, latents=latents: engine.decode(
                    crops, latents, fidelity=0.5
                ),
            )
            for part, run in enumerate(both):
                least[index][part] = min(least[index][part], run_seconds(run, device) / batch)
            if device.type == "cuda":
                peaks[index] = torch.cuda.max_memory_allocated(device) / 2**20
    rows = []
    for index, engine in enumerate(engines):
        taken = sum(least[index])
        limit = limit_of(device, engine.spec.precision)
        rows.append(
            Row(
                model=engine.spec.model,
                backend=backend_of(engine),
                precision=engine.spec.precision,
                batch_size=engine.spec.batch_size,
                encode_ms=1000 * least[index][0],
                decode_ms=1000 * least[index][1],
                peak_mib=peaks[index] if device.type == "cuda" else None,
                share_of_limit=None if limit is None else work / taken / limit,
            )
        )
    return rows


def limit_of(device: torch.device, precision: str) -> float | None:
    """Operations a second that a GPU can do, or None where its data sheet is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = [limits for card, limits in LIMITS.items() if card in name]
    return found[0][precision == "float32"] if found else None


def main() -> None:
    """Prints the table and writes the record."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=("lite", "v2", "v1"), default=["lite"])
    parser.add_argument("--backends", nargs="+", choices=get_args(BuiltBackend), default=None)
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=None)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.backends = options.backends or (["inductor", "tensorrt"] if on_gpu else ["openvino"])
    options.precisions = options.precisions or (["float16"] if on_gpu else ["float32", "bfloat16"])
    options.batch_sizes = options.batch_sizes or ([1, 4, 8, 16] if on_gpu else [1])
    device = torch.device("cuda:0" if on_gpu else "cpu")
    figures: dict[str, object] = {}
    for model in options.models:
        network = network_of(model)
        with tempfile.TemporaryDirectory() as folder:
            engines = engines_of(model, network, options, device, Path(folder))
            rows = rows_of(engines, network, device, options.repeats)
        for row in rows:
            extra = "" if row.peak_mib is None else f"{row.peak_mib:9.0f} MiB"
            if row.share_of_limit is not None:
                extra += f"{row.share_of_limit:7.1%} of the limit"
            print(
                f"{row.model:5}{row.backend:10}{row.precision:9} x{row.batch_size:<3}"
                f"{row.encode_ms:10.1f}{row.decode_ms:10.1f}{row.both_ms:10.1f} ms{extra}"
            )
        figures[model] = {
            "weights": "bundled" if model == "lite" else "random",
            "giga_operations": operations(network) / 1e9,
            "rows": [asdict(row) | {"both_ms": row.both_ms} for row in rows],
        }
    name = torch.cuda.get_device_name().replace(" ", "_") if on_gpu else "cpu"
    print(record.write(f"engines_{name}", figures))


if __name__ == "__main__":
    main()
