"""Where the checkout and the development data beside it lie."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
# Each import package and the folder that holds it.
PACKAGES = {
    "vqfr_media": ROOT / "vqfr_media",
    "vqfr_engines": ROOT / "engines" / "vqfr_engines",
    "vqfr_deform_conv": ROOT / "plugins" / "vqfr_deform_conv",
    "vqfr_training": ROOT / "training" / "vqfr_training",
}
