"""Whether the libraries of the studio's server are here, known before anything slow is imported."""

import importlib.util

from vqfr_media.errors import BackendError


def check_studio_available() -> None:
    """Raises a BackendError where Starlette or uvicorn is not installed."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise BackendError(f"the studio needs {name}: pip install 'vqfr-media[studio]'")
