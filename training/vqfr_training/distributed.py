"""Several processes that train one network: ranks under torchrun, on one machine or many.

Lightning Fabric provides the basics: which device is whose, the process group of torchrun's
variables, collective operations. Its wrappers around modules are not used. A stage calls parts of
its networks (encode, look-up, decode, discriminators) in its own order, while
DistributedDataParallel counts on one `forward` for each backward pass; so gradients are averaged
here, after the backward pass, in few large pieces. A process by itself has rank 0 of 1, for which
all of this is the identity."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Bytes of gradients that travel at once: few messages, and little memory beside the gradients.
_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class DistributedContext:
    """The ranks of one run."""

    device: torch.device
    """Where this rank computes."""
    rank: int = 0
    """This process's number, from 0."""
    world_size: int = 1
    """How many ranks there are."""
    fabric: "Fabric | None" = None
    """Lightning's; None for a single process."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be within 0..{self.world_size - 1}, got {self.rank}")
        if (self.fabric is None) != (self.world_size == 1):
            raise ValueError(f"{self.world_size} ranks with {self.fabric = }")

    @property
    def is_main(self) -> bool:
        """Whether this rank, number 0, writes files and reports progress."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its mean over all ranks: that of the whole batch.

        Exact for losses that are means over a batch's samples. Parameters without a gradient are
        left alone; they have to be the same ones on all ranks.
        """
        if self.fabric is None:
            return
        chunk: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:
                continue
            gradient = parameter.grad
            is_full = size + gradient.nbytes > _CHUNK_BYTES
            if chunk and (is_full or gradient.dtype != chunk[0].dtype):
                self._average(chunk)
                chunk, size = [], 0
            chunk.append(gradient)
            size += gradient.nbytes
        if chunk:
            self._average(chunk)

    def _average(self, gradients: list[Tensor]) -> None:
        mean = (
            self._sum(torch.cat([gradient.flatten() for gradient in gradients])) / self.world_size
        )
        parts = torch.split(mean, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum(self, tensor: Tensor) -> Tensor:
        """Averages over all ranks, in place; Fabric's own puts a barrier before it."""
        torch.distributed.all_reduce(tensor)
        return tensor

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns each single value's mean over all ranks, for the log."""
        if self.fabric is None or not values:
            return dict(values)
        flat = torch.stack([value.detach().float().reshape(()) for value in values.values()])
        mean = self._sum(flat) / self.world_size
        return dict(zip(values, mean.unbind(), strict=True))

    def gather(self, tensor: Tensor) -> Tensor:
        """Returns (N, …) of every rank, one below the other in the ranks' order; without gradients.

        So a batch shared out by rank comes back in its own order.
        """
        if self.fabric is None:
            return tensor.detach()
        mine = tensor.detach().contiguous()
        every = [torch.empty_like(mine) for _ in range(self.world_size)]
        torch.distributed.all_gather(every, mine)  # Fabric's own uses what PyTorch is giving up
        return torch.cat(every)

    @torch.no_grad()
    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Gives every rank the values of rank 0, in place: what was drawn or fitted there.

        Equal seeds draw the same on equal machines only; ranks with different initial weights never
        become equal."""
        if self.fabric is None:
            return
        for tensor in tensors:
            sent = tensor.detach().contiguous()  # networks are channels last
            torch.distributed.broadcast(sent, src=0)
            tensor.copy_(sent)

    def synchronise_norms[Module: nn.Module](self, module: Module) -> Module:
        """Returns the module with batch norms that see the whole batch: of several GPUs alone.

        PyTorch has them for GPUs only; on CPUs each rank's own share has to do.
        """
        if self.world_size == 1 or self.device.type != "cuda":
            return module
        converted: Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted

    def barrier(self) -> None:
        """Waits until all ranks are here."""
        if self.fabric is not None:
            self.fabric.barrier()


def single_process() -> DistributedContext:
    """Returns this process alone, on the GPU where there is one."""
    return DistributedContext(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def default_workers(cores: int | None = None) -> int:
    """Returns how many threads prepare samples: half the cores, 1 to 8.

    Args:
        cores: of the machine; by default as it says.
    """
    return max(1, min(8, (cores or os.cpu_count() or 1) // 2))


@contextmanager
def distributed_context() -> Iterator[DistributedContext]:
    """Yields this process's rank among torchrun's, or `single_process` where it was started alone.

    One GPU a rank where there are any, else CPUs with gloo. Use it once a process, around all its
    runs.

    Raises:
        ValueError: the machine has fewer GPUs than torchrun started ranks.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield single_process()
        return
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    if gpus and gpus < here:
        raise ValueError(f"torchrun started {here} ranks here, but there are {gpus} GPUs")
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator="cuda" if gpus else "cpu",
        devices=here,
        num_nodes=world_size // here,
        strategy="ddp",
    )
    fabric.launch()
    try:
        yield DistributedContext(fabric.device, fabric.global_rank, fabric.world_size, fabric)
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def fast_on_gpu(device: torch.device) -> Iterator[None]:
    """Lets a GPU train as fast as it can while this lasts; on a CPU nothing changes.

    cuDNN tries out its algorithms for each shape, and there are few; float32 products may be
    rounded to TensorFloat-32, which a network in training does not notice.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])
