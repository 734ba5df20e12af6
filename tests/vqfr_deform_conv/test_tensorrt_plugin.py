"""The TensorRT plugin and its converter, without a GPU; see `offline_plugin.py`."""

import os
import subprocess
import sys

import pytest
import torch
from vqfr_deform_conv.tensorrt_plugin import (
    LOG,
    PLUGIN_FAULT,
    PluginKey,
    _channels_last,
    logged_faults,
)

from tests.paths import ROOT

OFFLINE = "VQFR_MEDIA_TRT_OFFLINE"


def test_registration_shapes_formats_launches_and_converter() -> None:
    folder = os.environ.get(OFFLINE)
    if not folder:
        pytest.skip(f"{OFFLINE} does not name the folder that trt_offline/setup.sh makes")
    paths = {"LD_LIBRARY_PATH": [f"{folder}/lib"], "PYTHONPATH": [f"{folder}/site", str(ROOT)]}
    given = {n: os.pathsep.join([*p, os.environ.get(n, "")]).strip(":") for n, p in paths.items()}
    done = subprocess.run(
        # TensorRT and torch_tensorrt warn of themselves on import.
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "default",
            "tests/vqfr_deform_conv/offline_plugin.py",
        ],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_what_fails_inside_the_plugin_is_logged_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @logged_faults(PluginKey(1, 1, 1, 4, torch.float16))
    def implement(tactic: int) -> int:
        """Compiles."""
        return 8 // tactic

    assert implement(2) == 4
    assert (implement.__name__, implement.__annotations__["tactic"]) == ("implement", int)
    assert caplog.records == []
    with pytest.raises(ZeroDivisionError):
        implement(0)
    (record,) = caplog.records
    assert record.name == LOG
    assert record.getMessage() == (
        f"{PLUGIN_FAULT}deform_conv2d_s1p1d1g4_fp16 failed in implement: "
        "ZeroDivisionError: integer division or modulo by zero"
    )


def test_a_layout_is_offered_only_where_it_is_nhwc() -> None:
    assert _channels_last(torch.float16, 64, 128) == ["HWC8"]
    assert _channels_last(torch.bfloat16, 64, 20) == []
    assert _channels_last(torch.float32, 64, 20) == ["HWC"]
