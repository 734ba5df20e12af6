"""Several recipes in a row, each from the run before."""

from __future__ import annotations

from pathlib import Path

from vqfr_training.configs import Series
from vqfr_training.loop import run
from vqfr_training.scale import Team


def run_series(
    series: Series,
    *,
    data: Path,
    out: Path,
    vgg: Path | None,
    resume: bool,
    workers: int,
    team: Team | None = None,
) -> None:
    """Train each recipe of `series` into `out`/its name, beginning from the one before.

    Args:
        series: what to train.
        data: as for `run`.
        out: folder of run folders.
        vgg: as for `run`.
        resume: go on with runs that have begun; those that have not, begin.
        workers: threads that prepare samples.
        team: as for `run`.
    """
    before: Path | None = None
    for recipe in series.recipes:
        folder = out / recipe.name
        begun = resume and (folder / "run.json").is_file()
        run(
            recipe,
            data=data,
            out=folder,
            init=before,
            vgg=vgg,
            resume=begun,
            workers=workers,
            team=team,
        )
        before = folder
