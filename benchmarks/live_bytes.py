"""Bytes of every storage that lives, as PyTorch's operators make and drop them."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WARPS = {
    torch.ops.torchvision.deform_conv2d.default: (0, 2),
    torch.ops.torchvision._deform_conv2d_backward.default: (1, 3),
}
"""torchvision's operators that lay out columns, and which arguments are data and offsets."""


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage that lives, and the columns inside torchvision.

    With fake tensors nothing is computed and no memory is needed.
    """

    peak: int
    """The most that lived at once."""
    now: int
    """What lives."""
    columns: list[int]
    """Bytes of the columns of each deformable convolution, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.now = 0
        self.columns = []
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Does what is asked for, and counts what it made."""
        result = function(*args, **(kwargs or {}))
        inside = 0
        if function in _WARPS:
            data, offset = (args[place] for place in _WARPS[function])
            (images, channels), (height, width) = data.shape[:2], offset.shape[2:]
            inside = images * channels * 9 * height * width * data.element_size()
            self.columns.append(inside)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        self.peak = max(self.peak, self.now + inside)
        return result

    def add(self, tensor: Tensor) -> None:
        """Counts a tensor that was there before."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
