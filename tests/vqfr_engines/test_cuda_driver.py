"""Calls into NVIDIA's driver, against a stand-in compiled from C."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.paths import ROOT
from vqfr_media.backends import cuda_driver
from vqfr_media.errors import BackendError

# A driver that refuses PTX without "good" in it, and knows one kernel.
DRIVER = r"""
#include <string.h>
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuModuleLoadDataEx(void **module, const char *ptx, unsigned count, int *options,
                       void **values) {
    if (count != 2 || options[0] != 5 || options[1] != 6 || (size_t)values[1] < 100) return 1;
    if (!strstr(ptx, "good")) { strcpy(values[0], "ptxas: unsupported version\nmore"); return 222; }
    *module = (void *)0x123456789abc;
    return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    return module != (void *)0x123456789abc ? 400 : strcmp(name, "kernel") ? 500 : 0;
}
int cuModuleUnload(void *module) { return 0; }
"""
CALLS = """
from vqfr_media.backends import cuda_driver
from vqfr_media.errors import EngineError
print(cuda_driver.driver_version())
cuda_driver.load_ptx("good", "kernel")
for ptx, kernel in (("bad", "kernel"), ("good", "other")):
    try:
        cuda_driver.load_ptx(ptx, kernel)
    except EngineError as error:
        print(error)
"""


def test_the_driver_is_asked_by_its_own_conventions(tmp_path: Path) -> None:
    if shutil.which("gcc") is None or sys.platform != "linux":
        pytest.skip("the stand-in for the driver is compiled with gcc")
    source = tmp_path / "driver.c"
    source.write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "CUDA 13.2",
        "NVIDIA's driver refused cuModuleLoadDataEx with CUresult 222: ptxas: unsupported version",
        "NVIDIA's driver refused cuModuleGetFunction(other) with CUresult 500",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA driver is here")
def test_a_missing_driver_is_named() -> None:
    with pytest.raises(BackendError, match=r"driver is not here \(libcuda\.so\.1"):
        cuda_driver.driver_version()
