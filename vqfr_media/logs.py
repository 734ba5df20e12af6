"""The loggers of the packages that a restoration runs, for who wants to hear or quieten them."""

import logging

_PACKAGES = ("vqfr_media", "vqfr_engines", "vqfr_deform_conv")


def package_loggers() -> tuple[logging.Logger, ...]:
    """Returns the logger above all of each package's own."""
    return tuple(logging.getLogger(package) for package in _PACKAGES)
