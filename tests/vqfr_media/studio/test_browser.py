"""The studio in a real browser: clicked, dragged and typed at, and read out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.browsers import contrast, headless_browser, luminance
from tests.vqfr_media.studio.conftest import FRAMES, RunningStudio

# Contrast of text that WCAG 2.2 asks for (1.4.3), and of what can be operated (1.4.11).
TEXT_CONTRAST, PART_CONTRAST = 4.5, 3.0
# Restoring a frame for the first time may take so long on a busy machine.
PATIENCE = 120_000

MEASURE = """() => {
  const seen = (element) => element.getBoundingClientRect();
  const style = (element) => getComputedStyle(element);
  const shown = (element) => element.checkVisibility();
  document.querySelectorAll("details").forEach((element) => { element.open = true; });
  const named = (element) => (element.getAttribute("aria-label") || element.textContent
    || element.labels?.[0]?.textContent || "").trim();
  const operated = [...document.querySelectorAll("button, input, summary")].filter(shown);
  return {
    width: document.documentElement.scrollWidth,
    nameless: operated.filter((element) => !named(element)).map((e) => e.outerHTML),
    small: operated.filter((e) => Math.min(seen(e).width, seen(e).height) < 19)
      .map((e) => e.outerHTML),
    cut: [...document.querySelectorAll("h1, h2, h3, h4, p, li, code, button, input, label")]
      .filter((e) => shown(e) && !e.closest(".skip") && seen(e).right > innerWidth + 1)
      .map((e) => e.outerHTML),
    ids: [...document.querySelectorAll("[id]")].map((element) => element.id),
    images: [...document.images].filter(shown).map((i) => [i.alt, i.naturalWidth, seen(i).width]),
    stage: [seen(document.getElementById("stage")).width,
            seen(document.getElementById("stage")).height],
    ink: style(document.body).color,
    faint: style(document.querySelector(".faint")).color,
    ground: style(document.body).backgroundColor,
    card: style(document.querySelector(".card")).backgroundColor,
    main: [style(document.getElementById("save")).color,
           style(document.getElementById("save")).backgroundColor],
    edge: style(document.getElementById("copy")).borderTopColor,
    wrong: style(document.documentElement).getPropertyValue("--wrong").trim(),
    accent: style(document.documentElement).getPropertyValue("--after").trim(),
  };
}"""


# The name of what has the focus, and whether it shows that (the divider does by its stage).
FOCUSED = """() => {
  const one = document.activeElement;
  const shows = one.id === "wipe" ? document.getElementById("stage") : one;
  const outline = getComputedStyle(shows).outlineStyle;
  return [one.ariaLabel || one.textContent, outline !== "none" || one === document.body];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; the tests skip where there is none."""
    with headless_browser() as running:
        yield running


class OpenPage:
    """The studio's page in a tab of its own; what the tab complains of fails the test."""

    def __init__(self, browser: Any, studio: RunningStudio, width: int, scheme: str) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(studio.address)
        self.settled()

    def settled(self) -> None:
        """Waits until what is asked for is shown."""
        self.page.locator("#status", has_text=re.compile("restored in|Not restored")).wait_for()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def number(self) -> int:
        return int(self.page.locator("#number").input_value())

    def settings(self) -> Any:
        """What the page keeps for when it is loaded again."""
        return json.loads(self.page.evaluate("sessionStorage.getItem('studio settings')"))[
            "settings"
        ]


@pytest.fixture
def opened(browser: Any, studio: RunningStudio) -> Iterator[Any]:
    """Opens the page at a width, by day or by night; it must not complain, nor ask elsewhere."""
    pages: list[OpenPage] = []

    def open_page(width: int = 1280, scheme: str = "light") -> OpenPage:
        pages.append(OpenPage(browser, studio, width, scheme))
        return pages[-1]

    yield open_page
    for one in pages:
        one.context.close()
        assert one.said == []
        own = (studio.address, f"blob:http://{studio.host}/", "data:")
        assert [url for url in one.asked if not url.startswith(own)] == []


def stage_of(page: Any, path: Path) -> npt.NDArray[np.float64]:
    """The pictures as they look, without the edges, where names, divider and focus are drawn."""
    page.locator("#stage").screenshot(path=path, animations="disabled")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)[45:-8, 30:-30]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_at_a_desk_and_in_a_hand(opened: Any, width: int, scheme: str) -> None:
    page = opened(width, scheme).page
    seen = page.evaluate(MEASURE)
    assert seen["width"] == width  # nothing to scroll sideways
    assert seen["nameless"] == seen["small"] == seen["cut"] == []
    assert len(set(seen["ids"])) == len(seen["ids"])
    assert seen["stage"][0] == pytest.approx(seen["stage"][1] * 640 / 240, abs=2)
    assert seen["stage"][0] > (360 - 8 if width == 390 else 700)
    assert len(seen["images"]) == 6  # before, after, two persons, two tracks
    for words, natural, shown in seen["images"]:
        assert words
        assert natural in (640, 160)
        assert shown >= 64
    assert (luminance(seen["ground"]) < 0.1) == (scheme == "dark")
    for ground in (seen["ground"], seen["card"]):
        for text in (seen["ink"], seen["faint"], seen["wrong"]):
            assert contrast(text, ground) >= TEXT_CONTRAST
        for part in (seen["edge"], seen["accent"]):
            assert contrast(part, ground) >= PART_CONTRAST
    assert contrast(*seen["main"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("width", [1280, 390])
def test_the_divider_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(width).page
    wipe = page.get_by_role("slider", name="Divider: before left of it, after right of it")
    box = page.locator("#stage").bounding_box()
    middle = box["y"] + box["height"] / 2

    def share() -> float:
        style = page.locator("#stage").evaluate(
            "e => getComputedStyle(e).getPropertyValue('--wipe')"
        )
        return float(style.rstrip("%"))

    assert share() == 50
    page.mouse.click(box["x"] + 0.25 * box["width"], middle)
    assert share() == pytest.approx(25, abs=2)
    page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], middle, steps=4)
    page.mouse.up()
    assert share() == pytest.approx(90, abs=2)
    # The keyboard: a step, ten, and to the ends.
    wipe.focus()
    at = share()
    page.keyboard.press("ArrowLeft")
    assert share() == at - 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    assert share() == at - 10
    page.keyboard.press("Home")
    assert wipe.get_attribute("aria-valuetext") == "0 percent before, 100 percent after"
    after = stage_of(page, tmp_path / "after.png")
    page.keyboard.press("End")
    assert wipe.get_attribute("aria-valuetext") == "100 percent before, 0 percent after"
    before = stage_of(page, tmp_path / "before.png")
    changed = np.abs(after - before).max(axis=2)
    assert changed.max() > 20  # two pictures
    page.locator("#wipe").fill("50")
    both = stage_of(page, tmp_path / "both.png")
    left, right = slice(both.shape[1] // 2 - 30), slice(both.shape[1] // 2 + 30, None)
    np.testing.assert_array_equal(both[:, left], before[:, left])
    np.testing.assert_array_equal(both[:, right], after[:, right])
    assert changed[:, left].max() > 20
    assert changed[:, right].max() > 20


def test_choosing_and_writing(opened: Any, studio: RunningStudio, tmp_path: Path) -> None:
    tab = opened()
    page = tab.page
    file = studio.session.files.tracks
    command = page.locator("#command")
    assert "is not written yet" in page.locator("#saved").inner_text()
    page.get_by_role("slider", name="Divider").press("Home")
    both_restored = stage_of(page, tmp_path / "both.png")
    # Person 2 off, by a click; person 1 at 0.6, by keys.
    page.get_by_role("checkbox", name="Restore person 2").click()
    tab.settled()
    page.locator("#here", has_text="left alone: not ticked").wait_for()
    page.locator("#status", has_text="1 of 2 faces").wait_for()
    one_restored = stage_of(page, tmp_path / "one.png")
    changed = np.abs(one_restored - both_restored).max(axis=2)
    middle = changed.shape[1] // 2
    assert changed[:, :middle].max() == 0
    assert changed[:, middle:].max() > 20
    strength = page.get_by_role("slider", name="Strength of person 1", exact=True)
    assert strength.get_attribute("aria-valuetext") == "1.00, as for all"
    strength.press("ArrowLeft")
    for _ in range(7):
        strength.press("ArrowLeft")
    assert strength.get_attribute("aria-valuetext") == "0.60"
    page.get_by_role("slider", name="Grain of all faces").press("Home")
    page.locator("#command", has_text="--grain 0").wait_for()
    tab.settled()
    settings = tab.settings()
    assert settings["persons"] == {
        "1": {"enabled": True, "fidelity": None, "strength": 0.6},
        "2": {"enabled": False, "fidelity": None, "strength": None},
    }
    # It is all there after the page was loaded again.
    page.reload()
    tab.settled()
    assert not page.get_by_role("checkbox", name="Restore person 2").is_checked()
    assert page.get_by_role("slider", name="Grain of all faces").input_value() == "0"
    assert not file.exists()
    try:
        page.get_by_role("button", name="Write the tracks file").press("Enter")
        page.locator("#saved", has_text="is written.").wait_for()
        persons = json.loads(file.read_text())["persons"]
        assert persons == [{"id": int(n), **one} for n, one in settings["persons"].items()]
        assert command.inner_text() == studio.ask("status.json", settings=settings).value["command"]
        page.get_by_role("button", name="Strength of person 1: as for all").click()
        page.locator("#saved", has_text="was changed here since").wait_for()
    finally:
        file.unlink()


def test_only_one_person_and_one_track(opened: Any) -> None:
    tab = opened(390)
    page = tab.page
    page.get_by_role("button", name="Restore only person 2").click()
    tab.settled()
    assert [one["enabled"] for one in tab.settings()["persons"].values()] == [False, True]
    page.get_by_text("1 track of this person").nth(1).click()
    tick = page.get_by_role("checkbox", name="Restore track 1")
    tick.focus()
    tab.press("Space")
    assert not tick.is_checked()
    page.locator("#status", has_text="0 of 2 faces").wait_for()
    assert tab.settings()["tracks"]["1"]["enabled"] is False
    page.get_by_text("1 track of this person").nth(0).click()
    assert page.get_by_role("checkbox", name="Restore track 0").is_disabled()  # its person is off


def test_any_frame_and_closer(opened: Any) -> None:
    tab = opened()
    page = tab.page
    frame = page.get_by_role("slider", name="Frame", exact=True)
    frame.focus()
    tab.press("Home")
    assert tab.number() == 0
    tab.press("ArrowRight", "ArrowRight")
    assert tab.number() == 2
    page.get_by_role("button", name="One frame on").click()
    page.get_by_role("button", name="One frame on").click()
    assert tab.number() == FRAMES - 1  # there are no more
    page.get_by_role("button", name="One frame back").click()
    page.locator("#status", has_text=f"Frame {FRAMES - 2} restored in").wait_for()
    assert page.locator("#clock").inner_text() == "0:00:00.1"
    assert page.locator("#after").get_attribute("alt") == f"Frame {FRAMES - 2} restored"
    number = page.locator("#number")
    number.fill("99")
    number.press("Enter")
    assert tab.number() == FRAMES - 1
    closer = page.get_by_role("button", name="Look closer at track 1")
    closer.press("Enter")
    whole = page.get_by_role("button", name="Show the whole picture").nth(1)
    assert page.evaluate("document.activeElement.textContent") == "Whole picture"
    scales = "e => Number(getComputedStyle(e).getPropertyValue('--scale'))"
    assert page.locator("#stage").evaluate(scales) > 1.4
    whole.click()
    assert page.locator("#stage").evaluate(scales) == 1


def test_it_is_read_out(opened: Any) -> None:
    page = opened().page
    assert page.get_by_role("heading", level=1).inner_text().startswith("Studio: a <b>'s")
    titles = [one.inner_text() for one in page.get_by_role("heading", level=2).all()]
    assert titles == ["Before and after", "Save", "All faces", "Persons"]
    assert page.get_by_role("article", name="Person 1").count() == 1
    assert page.get_by_role("region", name="Persons").count() == 1
    assert page.get_by_role("img", name="Face of person 2").count() == 1
    assert page.get_by_role("list", name="Faces in this frame").get_by_role("listitem").count() == 2
    assert page.get_by_role("status").first.inner_text().endswith("2 of 2 faces.")
    # Whoever comes by keyboard sees where they are, and all can be reached.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Go to persons"
    reached = set()
    for _ in range(24):
        page.keyboard.press("Tab")
        name, is_seen = page.evaluate(FOCUSED)
        reached.add(name)
        assert is_seen, name
    for name in ("Divider: before left of it, after right of it", "Write the tracks file",
                 "Strength of all faces", "Restore person 1", "Restore only person 2"):  # fmt: skip
        assert name in reached


def test_what_fails_is_told(opened: Any, studio: RunningStudio) -> None:
    tab = opened()
    page = tab.page
    page.route("**/after.png", lambda route: route.fulfill(
        status=500, json={"error": "the network failed"}
    ))  # fmt: skip
    page.get_by_role("button", name="One frame back").click()
    page.locator("#status.wrong", has_text="Not restored: the network failed").wait_for()
    page.unroute("**/after.png")
    page.get_by_role("button", name="One frame on").click()
    page.locator("#status", has_text="restored in").wait_for()
    tab.said.clear()  # the browser itself says that an answer was 500
    assert not studio.session.files.tracks.exists()
