"""A real browser for the tests that open a page, and the contrast of what they see there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def headless_browser() -> Iterator[Any]:
    """Yields a headless Chromium; the test that asks for it skips where there is none.

    Not for longer than a module: meanwhile no other test could run an event loop.
    """
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no browser here: apt-get install chromium-headless-shell")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


def luminance(colour: str) -> float:
    """Of `rgb(r, g, b)` or `#rrggbb` (WCAG 2.2)."""
    if colour.startswith("#"):
        codes = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    else:
        codes = [int(float(part)) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in codes
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
