"""What compiles for a GPU: tried with g++ on a small tree of headers that lacks each in turn."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from vqfr_engines import inductor
from vqfr_engines.toolchain import (
    Toolchain,
    check_toolchain,
    cuda_homes,
    find_cuda_home,
    first_error_line,
    header_version,
    linkable_driver,
    missing,
)

from vqfr_media.errors import BackendError

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")

# As the wheels for CUDA 13 divide them: who includes whom decides what a compiler misses first.
HEADERS = {
    "cuda/include/cuda.h": '#define CUDA_VERSION 13000\nextern "C" int cuInit(unsigned);\n',
    "cuda/include/cuda_runtime_api.h": '#include "crt/host_defines.h"\n',
    "cuda/include/crt/host_defines.h": "",
    "cuda/include/cuda_bf16.h": "#include <nv/target>\n",
    "cuda/include/nv/target": "",
    "python/Python.h": "",
}


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    """A complete one; its driver is a library with nothing but cuInit, under the driver's name."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    root = tmp_path_factory.mktemp("toolchain")
    for name, content in HEADERS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    source = root / "driver.c"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    driver = root / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", driver], check=True)
    return Toolchain(
        cxx="g++",
        cc="gcc",
        cuda_home=root / "cuda",
        python_include=root / "python",
        driver=driver,
    )


def test_a_complete_tree_passes(toolchain: Toolchain) -> None:
    assert check_toolchain(toolchain) == f"g++, gcc, CUDA 13.0 in {toolchain.cuda_home}"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (
            "cuda/include/crt/host_defines.h",
            "crt/host_defines.h is missing, which is in nvidia-cuda-crt: "
            "pip install 'vqfr-media[inductor]', or use --backend torch",
        ),
        (
            "cuda/include/nv/target",
            "nv/target is missing, which is in nvidia-cuda-cccl: "
            "pip install 'vqfr-media[inductor]', or use --backend torch",
        ),
        (
            "cuda/include/cuda_runtime_api.h",
            "cuda_runtime_api.h is missing, which is in nvidia-cuda-runtime: "
            "pip install 'vqfr-media[inductor]', or use --backend torch",
        ),
        (
            "cuda/include/cuda_bf16.h",
            "cuda_bf16.h is missing, which is in nvidia-cuda-runtime: "
            "pip install 'vqfr-media[inductor]', or use --backend torch",
        ),
        (
            "python/Python.h",
            "Python.h is missing: install your Python's development package "
            "(apt install python3-dev), or use --backend torch",
        ),
    ],
)
def test_each_missing_header_is_named_with_what_brings_it(
    toolchain: Toolchain, header: str, says: str, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(toolchain.cuda_home.parent, tmp_path / "copy"))
    (root / header).unlink()
    lacking = replace(toolchain, cuda_home=root / "cuda", python_include=root / "python")
    with pytest.raises(BackendError) as error:
        check_toolchain(lacking)
    assert str(error.value) == f"the inductor backend cannot compile for a GPU here: {says}"


def test_the_driver_is_linked_by_the_name_it_lacks(toolchain: Toolchain) -> None:
    before = dict(os.environ)
    with pytest.raises(BackendError, match=r"libcuda\.so is missing, which NVIDIA's driver brings"):
        check_toolchain(replace(toolchain, driver=None))
    with linkable_driver(toolchain.driver):
        (folder,) = os.environ["LIBRARY_PATH"].split(os.pathsep)[-1:]
        assert (Path(folder) / "libcuda.so").resolve() == toolchain.driver
    assert not Path(folder).exists()
    assert dict(os.environ) == before


def test_missing_compilers_are_named(toolchain: Toolchain) -> None:
    with pytest.raises(BackendError, match=r"'no-such-cxx' is not here: install g\+\+"):
        check_toolchain(replace(toolchain, cxx="no-such-cxx"))
    with pytest.raises(BackendError, match=r"Triton compiles .* 'no-such-cc' is not here"):
        check_toolchain(replace(toolchain, cc="no-such-cc"))


def test_clangs_words_are_understood_too() -> None:
    said = "t.cpp:2:10: fatal error: 'nv/target' file not found\n#include <nv/target>"
    assert missing(said).startswith("nv/target is missing, which is in nvidia-cuda-cccl")
    assert missing("ld: library not found for -lcuda").startswith("libcuda.so is missing")
    assert (
        missing("note\nx.cpp:1: error: odd thing")
        == "x.cpp:1: error: odd thing; use --backend torch"
    )


def test_headers_of_another_cuda_are_passed_over(tmp_path: Path) -> None:
    for name, version in (("usr", 12040), ("wheels", 13000)):
        header = tmp_path / name / "include" / "cuda.h"
        header.parent.mkdir(parents=True)
        header.write_text(f"/* */\n#define CUDA_VERSION {version}\n")
    folders = [tmp_path / "absent", tmp_path / "usr", tmp_path / "wheels"]
    assert header_version(tmp_path / "usr/include/cuda.h") == "12.4"
    assert find_cuda_home(folders, wanted="13.0") == tmp_path / "wheels"
    assert find_cuda_home(folders, wanted="12.6") == tmp_path / "usr"
    with pytest.raises(BackendError) as error:
        find_cuda_home(folders[:2], wanted="13.0")
    assert str(error.value) == (
        "the inductor backend compiles with the headers of CUDA 13.0, and cuda.h is not here; "
        f"{tmp_path / 'usr'} has those of CUDA 12.4: pip install 'vqfr-media[inductor]', or name "
        "the folder of that toolkit in CUDA_HOME, or use --backend torch"
    )


def test_the_line_that_tells_is_found_in_what_a_compiler_says() -> None:
    said = "C++ compile error\n\nCommand:\ng++ -Werror=x a.cpp\n\nOutput:\nIn file included\n"
    assert first_error_line(f"{said}a.cpp:1:10:   fatal error: crt/host_defines.h: No\n more") == (
        "a.cpp:1:10: fatal error: crt/host_defines.h: No"
    )
    wrapped = "InductorError: SubprocException: An exception occurred in a subprocess:\n\nName=k\n"
    trace = (
        "Traceback (most recent call last):\n  File x\nRuntimeError: Failed to find C compiler\n"
    )
    assert first_error_line(f"{wrapped}{trace}") == "RuntimeError: Failed to find C compiler"
    assert first_error_line("\n  only this\nand this") == "only this"
    assert first_error_line("") == "the compiler says nothing"


def test_cuda_is_found_for_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import cpp_extension

    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    try:
        home = find_cuda_home(cuda_homes())
    except BackendError:
        pytest.skip("this PyTorch came without CUDA's headers")
    with inductor._cuda_found(torch.device("cuda", 0)):
        assert str(home) == cpp_extension.CUDA_HOME
    assert cpp_extension.CUDA_HOME is None
    with inductor._cuda_found(torch.device("cpu")):
        assert cpp_extension.CUDA_HOME is None
