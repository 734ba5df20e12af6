"""Where networks that were made ready for this machine are kept."""

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "VQFR_MEDIA_ENGINES"


def engines_folder(*, environ: Mapping[str, str] | None = None) -> Path:
    """Names the folder in which engines are kept: `VQFR_MEDIA_ENGINES`, or one in the cache."""
    named = (os.environ if environ is None else environ).get(VARIABLE, "")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("vqfr-media") / "engines"
