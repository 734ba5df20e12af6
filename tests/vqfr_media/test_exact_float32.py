"""Settings of a GPU's float32, which PyTorch has once for all threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.faces.detect import RetinaFaceDetector

GPU = torch.device("cuda")
BUNDLED = Path(__file__).parents[2] / "vqfr_media" / "models" / "detector.safetensors"


def is_exact() -> bool:
    flags = torch.backends.cudnn
    return flags.deterministic and not flags.allow_tf32


def test_it_lasts_until_the_last_thread_has_left() -> None:
    entered, left, seen = threading.Event(), threading.Event(), []

    def second() -> None:
        with exact_float32(GPU):
            entered.set()
            assert left.wait(10)
            seen.append(is_exact())

    assert not is_exact()
    thread = threading.Thread(target=second)
    with exact_float32(GPU):
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join()
    assert seen == [True]
    assert not is_exact()


def test_an_error_inside_puts_everything_back() -> None:
    @contextmanager
    def failing() -> Iterator[None]:
        with exact_float32(GPU):
            yield
            raise ArithmeticError

    with pytest.raises(ArithmeticError), failing():
        assert is_exact()
    assert not is_exact()


def test_faces_are_found_in_exact_float32_on_a_gpu() -> None:
    detector = RetinaFaceDetector(BUNDLED, backbone="mobilenet", backend="torch")
    seen = []
    network = detector._network
    assert isinstance(network, nn.Module)
    network.register_forward_pre_hook(lambda *_: seen.append(is_exact()))
    detector.outputs(torch.zeros(1, 3, 64, 96))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in network.modules():  # as if it were on a GPU
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    moved = mode.from_tensor(parameter.detach()).to("cuda")
                    module._parameters[name] = nn.Parameter(moved, requires_grad=False)
        offsets, scores, landmarks = detector.outputs(torch.empty(1, 3, 64, 96, device="cuda"))
    assert seen == [False, True]
    assert offsets.shape[:2] == scores.shape[:2] == landmarks.shape[:2]
