"""What a user can type to restore many files: `batch`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from vqfr_media.options import RestoreOptions

Patterns = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="GLOB")]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Restore the faces of all videos and images in a folder and those below it.

    The outputs form the same tree, and batch.json beside them tells of each file. Given again, the
    same command works only what is missing or changed: see docs/batch.md.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IN_DIR")]
    """Folder of videos and images, or its URL (s3://..., https://..., or a pattern of such)."""
    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT_DIR")]
    """Folder for the outputs and batch.json, or its URL; is made where it is not there."""
    include: Patterns = ()
    """Take only files that match one of these: '*.jpg', 'season 1/*'."""
    exclude: Patterns = ()
    """Leave out files and folders that match one of these."""
    video_suffix: str | None = None
    """Write every video as .mp4, .mkv, .mov ...; by default as it came, or as .mkv (.avi, .wmv,
    .flv, .mpg and others that cannot hold the result)."""
    image_suffix: str | None = None
    """Write every image as .png, .jpg ...; by default as it came."""
    follow_links: bool = False
    """Look into folders behind symbolic links too."""
    redo: bool = False
    """Work everything again."""
    retry: bool = False
    """Work again what failed, though neither the file nor an option has changed."""
    overwrite: bool = False
    """Replace files in the output's place that no earlier batch has made."""
    trust_times: bool = False
    """Believe that a file of the same size and time is the same, instead of reading it."""
    dry_run: bool = False
    """Only say what would be worked, and why."""
    ray: str | None = None
    """Spread the work over a Ray cluster: HOST:PORT, auto (this machine's, else a new local one) or
    local (a new one); see docs/distributed.md."""
    ray_workers: int | None = None
    """With --ray: how many workers; by default as many as the cluster has room for."""
    cpus_per_worker: int | None = None
    """With --ray: cores of each; by default so that a machine has a worker a GPU, else up to 8."""
    gpus_per_worker: float | None = None
    """With --ray: GPUs of each, also a part of one; by default 1 where there are GPUs, else 0."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    """What is done to each file."""
    quiet: bool = False
    """Print nothing but errors."""
