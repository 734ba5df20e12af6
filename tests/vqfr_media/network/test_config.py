import dataclasses
import json
from typing import Any

import pytest

from vqfr_media.network.config import (
    VqfrV1Config,
    VqfrV2Config,
    lite_config,
    vqfr_v1_config,
    vqfr_v2_config,
)


@pytest.mark.parametrize("config", [vqfr_v1_config(), vqfr_v2_config(), lite_config()])
def test_a_config_survives_json(config: VqfrV1Config | VqfrV2Config) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_follows_from_a_config() -> None:
    assert vqfr_v1_config().downsampling == 32
    assert vqfr_v1_config().latent_shape == (256, 16, 16)
    assert vqfr_v2_config().latent_shape == (256, 16, 16)
    assert lite_config().downsampling == 16
    assert lite_config().latent_shape == (128, 16, 16)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 500),
        ("image_size", 0),
        ("image_size", "512"),
        ("channels", (128,)),
        ("channels", [128] * 6),
        ("channels", (128, 128, 256, 256, 256, 500)),
        ("encoder_blocks", (2, 2)),
        ("encoder_blocks", (2, 2, 2, 2, 2, -1)),
        ("texture_blocks", (3, 3, 3, 3, 3, 3.0)),
        ("codebook_size", True),
        ("norm_groups", 48),
        ("offset_channels", (128, 128, 256, 256, 256, 0)),
        ("offset_channels", (128, 128, 256, 256, 256, 100)),
        ("offset_groups", 3),
        ("input_channels", 0),
        ("input_pyramid", 1),
        ("predict_residual", None),
        ("gain_channels", -1),
        ("gain_channels", 8.0),
        ("directed_gains", None),
        ("fine_gains", 1),
    ],
)
def test_a_bad_v1_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(vqfr_v1_config(), **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 100),
        ("channels", None),
        ("texture_blocks", 2),
        ("code_channels", -1),
        ("look_up", "guess"),
    ],
)
def test_a_bad_v2_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(vqfr_v2_config(), **{field: value})


def test_a_pyramid_too_narrow_for_its_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="half of the channels"):
        dataclasses.replace(lite_config(), channels=(4, 32, 64, 128, 192))


def test_missing_and_unknown_fields_are_named() -> None:
    values = vqfr_v1_config().to_dict()
    del values["norm_groups"]
    values["colour"] = "red"
    with pytest.raises(ValueError, match=r"missing fields \['norm_groups'\].*\['colour'\]"):
        VqfrV1Config.from_dict(values)


def test_band_gains_need_a_multiple_of_their_cells() -> None:
    config = dataclasses.replace(
        lite_config(),
        image_size=36,
        channels=(16, 32, 64),
        encoder_blocks=(0, 1, 1),
        texture_blocks=(1, 1, 1),
        offset_channels=(0, 16, 32),
        gain_channels=0,
        directed_gains=False,
        fine_gains=False,
    )
    with pytest.raises(ValueError, match="image_size must be a multiple of 8 with gain_channels"):
        dataclasses.replace(config, gain_channels=8)


def test_directed_gains_need_gains() -> None:
    with pytest.raises(ValueError, match="directed_gains needs gain_channels above 0"):
        dataclasses.replace(lite_config(), gain_channels=0)


def test_fine_gains_need_directions() -> None:
    with pytest.raises(ValueError, match="fine_gains needs directed_gains"):
        dataclasses.replace(lite_config(), directed_gains=False)


def test_a_description_older_than_band_gains_has_none() -> None:
    older = lite_config().to_dict()
    del older["fine_gains"]
    assert not VqfrV1Config.from_dict(older).fine_gains
    del older["directed_gains"]
    assert not VqfrV1Config.from_dict(older).directed_gains
    del older["gain_channels"]
    assert VqfrV1Config.from_dict(older).gain_channels == 0
    del older["predict_residual"]
    with pytest.raises(ValueError, match=r"missing fields \['predict_residual'\]"):
        VqfrV1Config.from_dict(older)
