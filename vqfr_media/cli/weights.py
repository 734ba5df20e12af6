"""`vqfr-media weights`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, assert_never

import tyro
from tqdm import tqdm

from vqfr_media import weights
from vqfr_media.cli.console import echo


@dataclass(frozen=True)
class WeightsList:
    """List every weights file, where it is and under which licence."""


@dataclass(frozen=True)
class WeightsFetch:
    """Download weights files into the cache."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names as in `weights list`; by default all."""


@dataclass(frozen=True)
class WeightsVerify:
    """Check the hashes of the weights files that are here."""


@dataclass(frozen=True)
class WeightsCommand:
    """List, fetch or verify model files."""

    action: (
        Annotated[WeightsList, tyro.conf.subcommand("list")]
        | Annotated[WeightsFetch, tyro.conf.subcommand("fetch")]
        | Annotated[WeightsVerify, tyro.conf.subcommand("verify")]
    )
    """What to do."""


def run_weights(command: WeightsCommand) -> int:
    """Runs one of the commands under `weights`; returns its exit code."""
    match command.action:
        case WeightsList():
            return list_weights()
        case WeightsFetch(names):
            return fetch_weights(names)
        case WeightsVerify():
            return verify_weights()
        case _:
            assert_never(command.action)


def list_weights() -> int:
    """Says of every weights file where it is."""
    for state in weights.status():
        file = weights.WEIGHTS[state.name]
        echo(f"{state.name:10} {state.state:9} {state.licence:11} {file.what}")
        echo(f"{'':10} {state.path}{f' ({state.fault})' if state.fault else ''}")
    return 0


def fetch_weights(names: Sequence[str]) -> int:
    """Downloads some weights files, or all."""
    fetchable = [name for name, file in weights.WEIGHTS.items() if file.url is not None]
    for name in names or fetchable:
        with tqdm(desc=name, unit="B", unit_scale=True, dynamic_ncols=True) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:  # type: ignore[type-arg]
                bar.total = total
                bar.update(done - bar.n)

            path = weights.find(name, progress=show)
        echo(f"{name}: {path}")
    return 0


def verify_weights() -> int:
    """Checks the hashes; 3 where a file is damaged."""
    states = weights.status()
    for state in states:
        verdict = (
            state.fault
            or {
                True: "the published file",
                False: "not the published file",
                None: "no published hash is known" if state.sha256 else "not here",
            }[state.published]
        )
        echo(f"{state.name:10} {state.state:9} {verdict}: {state.path}")
    return 3 if any(state.state == "damaged" for state in states) else 0
