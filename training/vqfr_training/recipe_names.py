"""The names of the recipes, apart from them: the command line need not load what they need."""

from typing import Literal

type RecipeName = Literal[
    "vqgan_v1",
    "vqfr_v1",
    "vqgan_v2",
    "vqfr_v2",
    "simvqfr",
    "single_branch",
    "no_warp",
    "vqgan_f8",
    "vqgan_f16",
    "vqgan_f64",
    "simvqfr_f8",
    "simvqfr_f16",
    "simvqfr_f64",
    "lite_stage1",
    "lite_stage2",
    "lite_longer",
    "lite_adversarial",
    "lite_people_stage1",
    "lite_people_stage2",
    "lite_people_longer",
    "lite_people_adversarial",
    "lite_people_stage1_longer",
    "lite_people_recoded",
    "lite_gpu",
    "lite_gpu_stage1",
    "lite_gpu_stage2",
    "smoke",
    "smoke_stage1",
    "smoke_stage2",
    "detector",
    "detector_people",
    "smoke_detector",
]
"""The names of `recipes.py`, in its order; a test compares them."""
