"""The few calls into NVIDIA's driver that PyTorch has no name for, through its C interface."""

import ctypes
import sys

from vqfr_media.errors import BackendError, EngineError

_ERROR_LOG_BYTES = 8192
# CUjit_option: where the just-in-time compiler writes its complaints, and how long that may be.
_ERROR_LOG_BUFFER, _ERROR_LOG_BUFFER_SIZE = 5, 6


def has_driver() -> bool:
    """Tells whether NVIDIA's driver is here; without it there is no CUDA device."""
    try:
        _library()
    except BackendError:
        return False
    return True


def driver_version() -> str:
    """Returns the newest CUDA that this machine's driver knows, such as `"CUDA 13.0"`.

    Raises:
        BackendError: there is no driver.
        EngineError: it does not say.
    """
    version = ctypes.c_int()
    _check(_library().cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def load_ptx(ptx: str, kernel: str) -> None:
    """Has the driver compile `ptx` for the current GPU and find `kernel` in it.

    A CUDA context must be current: PyTorch makes one as soon as it puts a tensor on the GPU.

    Raises:
        BackendError: there is no driver.
        EngineError: it refuses the code; the message is its own.
    """
    driver = _library()
    log = ctypes.create_string_buffer(_ERROR_LOG_BYTES)
    options = (ctypes.c_int * 2)(_ERROR_LOG_BUFFER, _ERROR_LOG_BUFFER_SIZE)
    # Values are passed as pointers, the size as a number in a pointer's place.
    values = (ctypes.c_void_p * 2)(ctypes.addressof(log), _ERROR_LOG_BYTES)
    module = ctypes.c_void_p()
    code = driver.cuModuleLoadDataEx(
        ctypes.byref(module), ptx.encode() + b"\0", len(options), options, values
    )
    _check(code, "cuModuleLoadDataEx", log.value.decode(errors="replace"))
    try:
        function = ctypes.c_void_p()
        code = driver.cuModuleGetFunction(ctypes.byref(function), module, kernel.encode())
        _check(code, f"cuModuleGetFunction({kernel})")
    finally:
        driver.cuModuleUnload(module)


def _library() -> ctypes.CDLL:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise BackendError(
            f"NVIDIA's driver is not here ({name}: {error}): install it, or use another backend"
        ) from error


def _check(code: int, call: str, log: str = "") -> None:
    if code:
        reason = log.strip().splitlines()
        said = f": {reason[0]}" if reason else ""
        raise EngineError(f"NVIDIA's driver refused {call} with CUresult {code}{said}")
