"""The options of a Ray cluster's workers, checked on construction."""

from dataclasses import dataclass

from vqfr_media.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """A Ray cluster, and the workers to start on it."""

    address: str = "auto"
    """HOST:PORT of a cluster; `auto`: the one in RAY_ADDRESS, else the one that `ray start` made on
    this machine, else as `local`; `local`: one that is started here and ends with the work."""
    workers: int | None = None
    """Number of workers; by default as many as the cluster has room for."""
    cpus_per_worker: int | None = None
    """Cores of each, which is also the number of the network's threads; by default so many that a
    machine has one worker for each GPU, or without GPUs at most eight."""
    gpus_per_worker: float | None = None
    """GPUs of each, also a part of one; by default 1 if the cluster has any."""

    def __post_init__(self) -> None:
        if "://" in self.address:
            raise OptionError(
                f"ray address {self.address!r}: Ray Client is not supported; run the command on a "
                "machine of the cluster, with its HOST:PORT or auto"
            )
        if self.address not in ("auto", "local"):
            host, colon, port = self.address.rpartition(":")
            if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
                raise OptionError(
                    f"ray address must be auto, local or HOST:PORT, got {self.address!r}"
                )
        for name in ("workers", "cpus_per_worker"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value <= 10_000):
                raise OptionError(f"{name} must be a whole number from 1 to 10000, got {value!r}")
        gpus = self.gpus_per_worker
        if gpus is not None and not (0 <= gpus <= 1 or gpus in range(2, 65)):
            raise OptionError(
                f"gpus_per_worker must be a part of 1, or a whole number up to 64, got {gpus!r}"
            )
