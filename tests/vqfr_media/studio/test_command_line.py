"""The command line on the page: parsed again, it has the options that were chosen."""

import shlex
from pathlib import Path

import pytest

from vqfr_media.cli.parsing import parse
from vqfr_media.cli.restore import RestoreCommand
from vqfr_media.options import (
    BlendOptions,
    EncodeOptions,
    FaceOptions,
    ModelOptions,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.studio.command_line import as_typed, restore_words
from vqfr_media.studio.settings import StudioSettings
from vqfr_media.time_range import TimeRange

OPTIONS = [
    RestoreOptions(),
    RestoreOptions(
        model=ModelOptions(model="v2", fidelity=0.7, device="cuda:1", batch_size=4),
        face=FaceOptions(faces="largest", min_face=40.5, detector_weights=Path("a b.pth")),
        temporal=TemporalOptions(landmarks="mesh", pixel_radius=0.1 + 0.2),
        blend=BlendOptions(strength=0.05, grain=0, keep_occluders=True),
        encode=EncodeOptions(codec="ffv1", quality=3, drop_unsupported_streams=True),
        part=TimeRange(start="1:02:10", duration="5"),
        upscale=2,
        fields="keep",
        strict=True,
        segment_seconds=0,
        offline=True,
    ),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["film.mkv", "-my 'odd' film; rm $HOME.mkv"])
def test_the_command_has_the_options_that_were_chosen(options: RestoreOptions, name: str) -> None:
    settings = StudioSettings(
        strength=options.blend.strength,
        grain=options.blend.grain,
        fidelity=options.model.fidelity,
    )
    words = restore_words(Path(name), Path("out.mkv"), Path("t.json"), options, settings)
    assert shlex.split(as_typed(words)) == words
    command = parse(words[1:])
    assert isinstance(command, RestoreCommand)
    assert [source.name for source in command.sources] == [name]
    assert command.output == Path("out.mkv")
    assert command.options.tracks == Path("t.json")
    fields = {field: getattr(command.options, field) for field in vars(options)}
    assert fields == {**vars(options), "tracks": Path("t.json")}


def test_only_what_differs_from_the_defaults_is_typed() -> None:
    words = restore_words(
        Path("film.mkv"), Path("out.mkv"), Path("t.json"), RestoreOptions(),
        StudioSettings(strength=0.35),
    )  # fmt: skip
    assert as_typed(words) == (
        "vqfr-media restore film.mkv -o out.mkv --strength 0.35 --tracks t.json"
    )
