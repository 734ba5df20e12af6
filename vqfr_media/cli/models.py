"""`vqfr-media weights` and `vqfr-media doctor`."""

from collections.abc import Sequence

from tqdm import tqdm

from vqfr_media import weights
from vqfr_media.cli.say import say


def list_weights() -> int:
    """Says of every weights file where it is."""
    for state in weights.status():
        file = weights.WEIGHTS[state.name]
        say(f"{state.name:10} {state.state:9} {state.licence:11} {file.what}")
        say(f"{'':10} {state.path}{f' ({state.fault})' if state.fault else ''}")
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
        say(f"{name}: {path}")
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
        say(f"{state.name:10} {state.state:9} {verdict}: {state.path}")
    return 3 if any(state.state == "damaged" for state in states) else 0


def doctor() -> int:
    """Says what this machine can do, and what is missing."""
    from vqfr_media.doctor import examine

    for finding in examine():
        say(f"{finding.verdict:8} {finding.topic:20} {finding.detail}")
    return 0
