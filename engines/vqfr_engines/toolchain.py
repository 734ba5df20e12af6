"""What PyTorch's compiler needs of a machine to build for a GPU, found out by a trial.

Seen on wheels for CUDA 13: the runtime's wheel, which PyTorch brings, has no
`crt/host_defines.h` (in nvidia-cuda-crt) and no `nv/target` (in nvidia-cuda-cccl); and drivers
without a toolkit have `libcuda.so.1` but no `libcuda.so`, which is what a linker looks for.
"""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vqfr_media.errors import BackendError

EXTRA = "pip install 'vqfr-media[inductor]'"

_TRIAL = """\
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cuda_bf16.h>
#include <Python.h>
int main() { return cuInit(0); }
"""
_DRIVER_LIBRARY = "libcuda.so.1"
_TRIAL_SECONDS = 120
_INSTEAD = "or use --backend torch"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """What builds for a GPU with CUDA."""

    cxx: str
    """C++ compiler, a name on PATH or a path."""
    cc: str
    """C compiler, likewise: Triton compiles what starts a kernel with it."""
    cuda_home: Path
    """Folder that has CUDA's `include` and, if anything, `lib64` or `lib`."""
    python_include: Path
    """Folder of Python.h."""
    driver: Path | None
    """NVIDIA's libcuda.so.1, where it is known: linked by the name that linkers look for."""


def installed_toolchain() -> Toolchain:
    """Finds what PyTorch's compiler would use here, as far as it is known before a trial.

    Raises:
        BackendError: there is no folder with headers of the CUDA that PyTorch was built with.
    """
    return Toolchain(
        cxx=cxx_compiler(),
        cc=os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), "cc"),
        cuda_home=find_cuda_home(cuda_homes()),
        python_include=Path(sysconfig.get_path("include")),
        driver=driver_library(),
    )


def cxx_compiler() -> str:
    """Returns the C++ compiler that PyTorch takes."""
    return os.environ.get("CXX", "g++")


def cuda_homes() -> list[Path]:
    """Lists where CUDA may be: the toolkit, then the wheels that PyTorch depends on."""
    from torch.utils import cpp_extension

    folders = [] if cpp_extension.CUDA_HOME is None else [Path(cpp_extension.CUDA_HOME)]
    packages = Path(torch.__file__).parents[1] / "nvidia"
    return [*folders, *sorted(packages.glob("cu[0-9]*")), packages / "cuda_runtime"]  # 13, 12


def find_cuda_home(folders: Sequence[Path], *, wanted: str | None = None) -> Path:
    """Returns the first of `folders` with CUDA headers of the major version `wanted`.

    A distribution's headers may be those of CUDA 12 beside a PyTorch for CUDA 13.

    Args:
        folders: to be looked at, in this order.
        wanted: such as "13.0"; by default what PyTorch was built with.

    Raises:
        BackendError: none has; says what was seen.
    """
    wanted = torch.version.cuda if wanted is None else wanted
    others = []
    for folder in folders:
        found = header_version(folder / "include" / "cuda.h")
        if found and wanted and found.partition(".")[0] == wanted.partition(".")[0]:
            return folder
        if found:
            others.append(f"{folder} has those of CUDA {found}")
    seen = f"; {'; '.join(others)}" if others else ""
    raise BackendError(
        f"the inductor backend compiles with the headers of CUDA {wanted}, and cuda.h is not "
        f"here{seen}: {EXTRA}, or name the folder of that toolkit in CUDA_HOME, {_INSTEAD}"
    )


def header_version(header: Path) -> str | None:
    """Returns the version that a cuda.h says, such as "13.0"; None where there is none."""
    if not header.is_file():
        return None
    text = header.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^#define\s+CUDA_VERSION\s+(\d+)", text, re.MULTILINE)
    return f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}" if found else None


def driver_library() -> Path | None:
    """Returns the driver's libcuda.so.1 as the loader finds it; None where there is no driver."""
    try:
        ctypes.CDLL(_DRIVER_LIBRARY)
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = re.search(rf"(/\S*{re.escape(_DRIVER_LIBRARY)}\S*)$", mapped, re.MULTILINE)
    return Path(found[1]) if found else None


@contextlib.contextmanager
def linkable_driver(driver: Path | None) -> Iterator[None]:
    """Lets linkers find the driver's library as libcuda.so too, while this lasts.

    The variable is that of the compilers which PyTorch starts; no option of it says where it is.
    """
    if driver is None:
        yield
        return
    before = os.environ.get("LIBRARY_PATH")
    with tempfile.TemporaryDirectory(prefix="vqfr-media-libcuda-") as folder:
        (Path(folder) / "libcuda.so").symlink_to(driver)
        os.environ["LIBRARY_PATH"] = os.pathsep.join(filter(None, (before, folder)))
        try:
            yield
        finally:
            if before is None:
                del os.environ["LIBRARY_PATH"]
            else:
                os.environ["LIBRARY_PATH"] = before


def check_toolchain(toolchain: Toolchain) -> str:
    """Compiles and links three lines as PyTorch's compiler would.

    Returns:
        What was used, in a few words.

    Raises:
        BackendError: naming what is missing, and the package that brings it.
    """
    check_cxx(toolchain.cxx)
    if shutil.which(toolchain.cc) is None:
        raise BackendError(
            f"Triton compiles with a C compiler and {toolchain.cc!r} is not here: install gcc "
            f"(apt install gcc), name another in CC, {_INSTEAD}"
        )
    said = _compiled(toolchain)
    if said is None:
        version = header_version(toolchain.cuda_home / "include" / "cuda.h")
        return f"{toolchain.cxx}, {toolchain.cc}, CUDA {version} in {toolchain.cuda_home}"
    raise BackendError(f"the inductor backend cannot compile for a GPU here: {missing(said)}")


def check_cxx(compiler: str) -> None:
    """Checks that the C++ compiler is here.

    Raises:
        BackendError: it is not; says the way out.
    """
    if shutil.which(compiler) is None:
        raise BackendError(
            f"the inductor backend compiles with a C++ compiler and {compiler!r} is not here: "
            f"install g++ (apt install g++), name another in CXX, {_INSTEAD}"
        )


def missing(said: str) -> str:
    """Tells what a compiler that `said` this lacks, and what brings it; one line."""
    found = re.search(r"error: '?<?([\w./-]+)>?'?(?:: No such file| file not found)", said)
    header = found[1] if found else ""
    if header == "Python.h":
        return (
            "Python.h is missing: install your Python's development package (apt install "
            f"python3-dev), {_INSTEAD}"
        )
    package = next((name for start, name in _PACKAGES.items() if header.startswith(start)), None)
    if package is not None:
        return f"{header} is missing, which is in {package}: {EXTRA}, {_INSTEAD}"
    if re.search(r"(cannot find|unable to find library|library not found for) -lcuda\b", said):
        return (
            "libcuda.so is missing, which NVIDIA's driver brings (libcuda.so.1 at least): install "
            f"the driver, or name its folder in LIBRARY_PATH, {_INSTEAD}"
        )
    return f"{first_error_line(said)}; {_INSTEAD.removeprefix('or ')}"


# Beginning of a header's name, and the wheel that has it.
_PACKAGES = {
    "crt/": "nvidia-cuda-crt",
    "nv/": "nvidia-cuda-cccl",
    "cuda/": "nvidia-cuda-cccl",
    "cuda": "nvidia-cuda-runtime",
}


def first_error_line(text: str) -> str:
    """Finds the first line that tells of an error, else the first that is not blank.

    Where a compiler says nothing of errors, it is the last that ends a traceback: PyTorch's
    compiler works in processes of its own, and wraps what failed there.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    of_compilers = (line for line in lines if re.search(r"error:|fatal", line))
    of_python = (line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception): \S", line))
    otherwise = lines[0] if lines else "the compiler says nothing"
    return next(of_compilers, None) or next(of_python, otherwise)


def _compiled(toolchain: Toolchain) -> str | None:
    """Returns what the compiler says where the trial fails; None where it succeeds."""
    home = toolchain.cuda_home
    includes = [home / "include", toolchain.python_include]
    libraries = [home / part for part in ("lib64", "lib64/stubs", "lib", "lib/stubs")]
    with tempfile.TemporaryDirectory(prefix="vqfr-media-trial-") as folder:
        source = Path(folder) / "trial.cpp"
        source.write_text(_TRIAL)
        command = [
            toolchain.cxx,
            "-std=c++17",
            # A compiler's own folder is not named again: that would reorder it.
            *(f"-I{path}" for path in includes if path != Path("/usr/include")),
            str(source),
            "-o",
            str(Path(folder) / "trial"),
            *(f"-L{path}" for path in libraries if path.is_dir()),
            "-lcuda",
        ]
        with linkable_driver(toolchain.driver):
            try:
                done = subprocess.run(  # noqa: S603  # the compiler that PyTorch would start
                    command,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    check=False,
                    timeout=_TRIAL_SECONDS,
                    env={**os.environ, "LC_ALL": "C"},  # its messages are looked through
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"error: {error}"
        return None if done.returncode == 0 else done.stdout + done.stderr
