"""The report in a real browser: at the width of a desk and of a hand, by day and by night."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browsers import contrast, headless_browser, luminance
from tests.vqfr_media.review.conftest import MadeReport

# Contrast of text that WCAG 2.2 asks for (1.4.3), and of what a drawing is made of (1.4.11).
TEXT_CONTRAST, DRAWING_CONTRAST = 4.5, 3.0

MEASURE = """() => {
  const seen = (element) => element.getBoundingClientRect();
  const colour = (element, name) => getComputedStyle(element)[name];
  const open = document.querySelectorAll("details");
  open.forEach((element) => { element.open = true; });
  return {
    width: document.documentElement.scrollWidth,
    images: [...document.images].map((image) => [image.naturalWidth, seen(image).width]),
    plots: [...document.querySelectorAll("svg")].map((svg) => [seen(svg).width, seen(svg).height]),
    letters: Math.min(...[...document.querySelectorAll(".plots svg text")].map(
      (text) => seen(text).height)),
    plotInk: colour(document.querySelector("svg text"), "fill"),
    ink: colour(document.body, "color"),
    faint: colour(document.querySelector("figcaption"), "color"),
    ground: colour(document.body, "backgroundColor"),
    card: colour(document.querySelector(".card"), "backgroundColor"),
    lines: ["--before", "--after"].map(
      (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()),
    cut: [...document.querySelectorAll("h1, h2, h3, p, figcaption, dd, td, th")].filter(
      (element) => seen(element).right > innerWidth && !element.closest(".wide")).length,
    tables: [...document.querySelectorAll("section[aria-labelledby=summary] table, .track table")
      ].map((table) => table.scrollWidth - table.closest(".wide").clientWidth),
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; the tests skip where there is none."""
    with headless_browser() as running:
        yield running


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(
    browser: Any, made_report: MadeReport, tmp_path: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(made_report.page.as_uri())
    seen = page.evaluate(MEASURE)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    context.close()

    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [made_report.page.as_uri()]
    assert seen["width"] == width  # nothing to scroll sideways
    assert seen["cut"] == 0
    assert seen["tables"]
    assert max(seen["tables"]) <= 0
    assert len(seen["images"]) >= 4
    for natural, shown in seen["images"]:
        assert natural == 256
        assert shown > 100
    for shown_width, height in seen["plots"]:
        assert shown_width > 250
        assert 60 < height < 500
    assert seen["letters"] >= 9  # pixels, of a line of text in a plot
    assert seen["plotInk"] == seen["ink"]
    assert (luminance(seen["ground"]) < 0.1) == (scheme == "dark")
    for text in (seen["ink"], seen["faint"]):
        for ground in (seen["ground"], seen["card"]):
            assert contrast(text, ground) >= TEXT_CONTRAST
    for line in seen["lines"]:
        assert contrast(line, seen["card"]) >= DRAWING_CONTRAST * 0.98
    with Image.open(tmp_path / "page.png") as image:
        picture = np.asarray(image.convert("RGB"), float)
    assert picture.shape[1] == width
    # Both lines of the plots are there, in their colours.
    for colour in seen["lines"]:
        wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        assert (np.abs(picture - wanted).max(axis=2) < 12).sum() > 200


def test_the_figures_are_read_out(browser: Any, made_report: MadeReport) -> None:
    page = browser.new_page()
    page.goto(made_report.page.as_uri())
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("table").count() >= 2
    assert page.get_by_role("rowheader", name="Flicker, levels").count() >= 2
    plots = page.get_by_role("img", name="Landmark jitter of face")
    assert plots.count() >= 1
    assert page.get_by_role("img", name="in the source at").count() >= 2
    page.close()
