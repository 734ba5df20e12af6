"""Everything this package raises on purpose.

    VqfrMediaError
    ├── InputError (also ValueError)             exit code 2: what the caller gave is at fault
    │   ├── OptionError                          an option is out of range or does not fit another
    │   ├── MediaError                           not a video, no picture in it, damaged, truncated
    │   ├── CodecError                           unknown, or cannot hold the pixel format
    │   └── CheckpointError                      a weights file that does not fit the network
    ├── MachineError (also OSError)              exit code 3: this machine lacks something
    │   ├── OutputError                          folder missing, not writable, disk full
    │   ├── WeightsError                         weights absent, offline, or with the wrong hash
    │   ├── BackendError                         a backend or device that is not here
    │   └── EngineFileError                      an engine on disk: damaged, or another machine's
    └── EngineError (also RuntimeError)          exit code 1: the network failed on this machine
        ├── EngineMemoryError                    it does not fit into the memory of the GPU
        ├── InexactEngineError                   an engine computes something else than PyTorch
        └── SkippedFaceError                     a face was skipped while `strict` was asked for

Each carries one line that names the value and the way out. In a batch of files an error becomes a
file's record and the others go on; exit code 4 says that there are such.
"""

__all__ = [
    "BackendError",
    "CheckpointError",
    "CodecError",
    "EngineError",
    "EngineFileError",
    "EngineMemoryError",
    "InexactEngineError",
    "InputError",
    "MachineError",
    "MediaError",
    "OptionError",
    "OutputError",
    "SkippedFaceError",
    "VqfrMediaError",
    "WeightsError",
]


class VqfrMediaError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(VqfrMediaError, ValueError):
    """What the caller gave is at fault."""


class OptionError(InputError):
    """An option is out of its range, or two options contradict each other."""


class MediaError(InputError):
    """A file that cannot be read as a video or an image, wholly or from some frame on."""


class CodecError(InputError):
    """A codec or container that is unknown, or cannot hold the source's pixel format."""


class CheckpointError(InputError):
    """A weights file that is damaged or does not fit the network."""


class MachineError(VqfrMediaError, OSError):
    """This machine lacks something that the work needs."""


class OutputError(MachineError):
    """The output cannot be written: folder missing, not writable, disk full."""


class WeightsError(MachineError):
    """Weights that are absent, cannot be fetched, or have the wrong hash."""


class BackendError(MachineError):
    """A backend, an extra or a device that this machine does not have."""


class EngineFileError(MachineError):
    """An engine on disk that is damaged, or was built for another machine, version or network."""


class EngineError(VqfrMediaError, RuntimeError):
    """The network failed while it ran."""


class EngineMemoryError(EngineError):
    """The network and its batch do not fit into the memory."""


class InexactEngineError(EngineError):
    """An engine computes something else than PyTorch, or values that are not finite."""


class SkippedFaceError(EngineError):
    """A face was not restored although `strict` was asked for."""
