"""The page of a report: complete, true to what was measured, and safe with any name."""

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.stand_ins import MarkerDetector
from tests.vqfr_media.review.clips import disc, write_pictures
from tests.vqfr_media.review.conftest import FRAMES, NAME, MadeReport, run
from vqfr_media.errors import BackendError, InputError, OptionError, OutputError
from vqfr_media.options import RestoreOptions
from vqfr_media.review.figures import Figures
from vqfr_media.review.measure import measure
from vqfr_media.review.measurement import MeasuredRestoration
from vqfr_media.review.page import figure_rows, left_alone, reasons_text, render
from vqfr_media.review.plots import draw_lines, draw_spans
from vqfr_media.review.report import write_report
from vqfr_media.review.restore_run import RestoreRun, read_restore_run

VOID = {"meta", "link", "img", "br"}


@dataclass
class Page(HTMLParser):
    """What a page holds, read by a parser that knows nothing of how it was made."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in {"td", "th", "p"}:
            self.text += " "

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self.open):
            self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def parsed(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []  # everything that was opened was closed
    page.text = " ".join(page.text.split())
    return page


def test_the_page_needs_nothing_but_itself(made_report: MadeReport) -> None:
    text = made_report.page.read_text(encoding="utf-8")
    page = parsed(text)
    without_pictures = re.sub(r"data:[^\"]*", "", text)
    assert re.findall(r"https?:|//\w|@import|url\((?!#)", without_pictures) == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed"}
        for name in ("src", "href"):
            link = attributes.get(name) or "#"
            assert link.startswith(("data:", "#")), (tag, link[:60])
    names = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert [name for name, count in names.items() if count > 1] == []


def test_names_are_no_markup(made_report: MadeReport) -> None:
    page = parsed(made_report.page.read_text(encoding="utf-8"))
    assert f"Before and after: {NAME}" in page.text
    assert page.all("b") == []


def test_pictures_and_plots_have_words(made_report: MadeReport) -> None:
    page = parsed(made_report.page.read_text(encoding="utf-8"))
    images = page.all("img")
    assert len(images) >= 4
    for image in images:
        assert re.fullmatch(
            r"Face \d+ in the (source|result) at [\d.]+ seconds", image["alt"] or ""
        )
        assert (image["src"] or "").startswith("data:image/jpeg;base64,/9j/")
    plots = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(plots) == len(page.all("svg"))
    for plot in plots:
        assert len(plot["aria-label"] or "") > 20
    assert page.all("html")[0]["lang"] == "en"
    for header in page.all("th"):
        assert header["scope"] in ("row", "col")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_says_what_was_measured(made_report: MadeReport) -> None:
    page = parsed(made_report.page.read_text(encoding="utf-8"))
    figures = json.loads(made_report.figures.read_text())
    assert (figures["format"], figures["version"]) == ("vqfr-media figures", 1)
    assert figures["pairs"] == FRAMES
    whole = figures["figures"]
    for name, before, after in (
        ("Landmark jitter, px", whole["jitter_before"], whole["jitter_after"]),
        ("Flicker, levels", whole["flicker_before"], whole["flicker_after"]),
        ("Sharpness, × source", None, whole["sharpness"]),
        ("Change, levels", None, whole["change"]),
    ):
        told = f"{name} {before:.2f} {after:.2f}" if before is not None else f"{after:.2f}"
        assert told in page.text, name
    restored, alone = figures["tracks"][:2]
    assert (restored["reasons"], alone["reasons"]) == ({}, {"disabled": FRAMES})
    # What was left alone differs by what the encoder did to it.
    assert restored["figures"]["change"] > 2 * alone["figures"]["change"]
    assert restored["figures"]["sharpness"] > 1.1
    assert alone["figures"]["sharpness"] == pytest.approx(1, abs=0.1)
    for track in figures["tracks"]:
        frames = track["figures"]["faces"]
        assert f"frames {track['first_frame']} to {track['last_frame']} ({frames})" in page.text


def test_faces_left_alone_are_those_that_the_restoration_counted(made_report: MadeReport) -> None:
    page = parsed(made_report.page.read_text(encoding="utf-8"))
    restored = json.loads(made_report.restore_report.read_text())
    figures = json.loads(made_report.figures.read_text())
    assert figures["reasons"] == restored["skipped"]
    assert set(restored["skipped"]) == {"disabled"}
    assert f"Faces left alone: {restored['skipped']['disabled']} × disabled." in page.text


def test_the_page_says_how_it_was_made(made_report: MadeReport) -> None:
    page = parsed(made_report.page.read_text(encoding="utf-8"))
    restored = json.loads(made_report.restore_report.read_text())
    assert "Model lite (asked for)" in page.text
    assert "face.min_face 24.0" in page.text
    assert "model.fidelity –" in page.text
    assert restored["versions"]["numpy"] in page.text
    assert "tracks.json, and in the result by the bundled detector" in page.text


def test_without_the_restoration_s_own_report(
    made_report: MadeReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.html"
    words = ("--detector", "bundled", "--max-tracks", 0)
    assert run("report", made_report.source, made_report.restored, "-o", out, *words) == 0
    assert f"{out}: {FRAMES} frames" in capsys.readouterr().out
    page = parsed(out.read_text(encoding="utf-8"))
    assert "Faces left alone: not known" in page.text
    assert "Options of the restoration: not known" in page.text
    assert "Versions of the restoration: not known" in page.text
    assert page.all("img") == []
    assert "shorter tracks, in figures" in page.text


def a_run(path: Path, **changes: Any) -> RestoreRun:
    values = {"model": "lite", "restored": 3, "skipped": {}, **changes}
    path.write_text(json.dumps(values))
    return read_restore_run(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> MeasuredRestoration:
    clip = write_pictures(tmp_path_factory.mktemp("plain") / "clip.mkv", [disc()] * 5)
    return measure(
        clip, clip, RestoreOptions(), detector=MarkerDetector(), detector_description="it"
    )


def test_an_old_report_without_options(plain: MeasuredRestoration, tmp_path: Path) -> None:
    run = a_run(tmp_path / "old.json", skipped={"too small": 4}, seconds=12.34567)
    assert (run.face, run.options, run.versions) == (None, {}, {})
    page = parsed(render(plain, run, notes=["mind this"]))
    assert "The restoration itself counted 4 × too small." in page.text
    assert "Faces left alone: not known" in page.text
    assert "Options of the restoration: not known" in page.text
    assert "Seconds of work 12.3" in page.text
    assert "mind this" in page.text
    none = parsed(render(plain, a_run(tmp_path / "none.json")))
    assert "Faces left alone: none." in none.text


def test_a_restoration_s_report(made_report: MadeReport) -> None:
    run = read_restore_run(made_report.restore_report)
    assert run.face is not None
    assert (run.face.min_face, run.face.score) == (24.0, 0.8)
    assert (run.search_interval, run.max_gap, run.min_track) == (0.2, 0.2, 0.12)
    assert run.tracks == made_report.tracks
    assert run.facts["Faces restored"] == str(FRAMES)


def test_a_report_from_before_an_option_says_how_it_was(tmp_path: Path) -> None:
    path = tmp_path / "restore.json"
    path.write_text('{"model": "", "restored": 1, "skipped": {}, "options": {"temporal": {}}}')
    run = read_restore_run(path)
    assert (run.search_interval, run.min_track, run.max_gap) == (0.0, 0.0, None)
    path.write_text('{"model": "", "restored": 1, "skipped": {}}')
    run = read_restore_run(path)
    assert (run.search_interval, run.min_track, run.max_gap) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is no report of a restoration"),
        ('{"model": "lite"}', "is no report of a restoration"),
        ('{"model": "", "restored": 1, "skipped": 3}', "options or skipped are wrong"),
        ('{"model": "", "restored": 1, "skipped": {}, "options": 5}', "options or skipped"),
        (
            '{"model": "", "restored": 1, "skipped": {}, "options": {"face": {"proxy": 1}}}',
            "options.face: proxy must be between",
        ),
        (
            '{"model": 0, "restored": 1, "skipped": {}, "options": {"temporal": {"max_gap": ""}}}',
            "max_gap must be a number",
        ),
        (
            '{"model": 0, "restored": 1, "skipped": {}, '
            '"options": {"temporal": {"search_interval": true}}}',
            "search_interval must be a number",
        ),
    ],
)
def test_what_is_no_report_of_a_restoration(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "restore.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"restore\.json.*{re.escape(says)}"):
        read_restore_run(path)
    with pytest.raises(InputError, match=r"none\.json: there is no such file; make it with"):
        read_restore_run(tmp_path / "none.json")


def test_tracks_that_are_gone_are_noted(made_report: MadeReport, tmp_path: Path) -> None:
    values = json.loads(made_report.restore_report.read_text())
    values["options"]["tracks"] = str(tmp_path / "gone.json")
    values["detector"] = "resnet50"
    report = tmp_path / "restore.json"
    report.write_text(json.dumps(values))
    out = tmp_path / "r.html"
    words = ("-o", out, "--restore-report", report, "--detector", "bundled", "--max-tracks", 0)
    assert run("report", made_report.source, made_report.restored, *words, "--quiet") == 0
    page = parsed(out.read_text(encoding="utf-8"))
    assert "gone.json, which are not there now" in page.text
    assert "found its faces with resnet50, this page with bundled" in page.text


def test_what_is_of_another_run_is_noted(made_report: MadeReport, tmp_path: Path) -> None:
    values = json.loads(made_report.restore_report.read_text())
    values["output"] = "elsewhere/another.mp4"
    del values["options"]["tracks"]
    report, out = tmp_path / "restore.json", tmp_path / "r.html"
    report.write_text(json.dumps(values))
    words = ("-o", out, "--restore-report", report, "--tracks", made_report.tracks)
    quick = ("--max-tracks", 0, "--quiet", "--offline")
    assert run("report", made_report.source, made_report.restored, *words, *quick) == 0
    text = " ".join(parsed(out.read_text(encoding="utf-8")).text.split())
    assert f"report is of {made_report.source.name} and another.mp4, this page of" in text
    assert "given the tracks in tracks.json, the restoration no file of tracks" in text
    page = parsed(made_report.page.read_text(encoding="utf-8")).text
    assert "another run's" not in page


def figures(**changes: Any) -> Figures:
    values = {
        "seconds": 0.0, "faces": 9, "jitter_before": 2.0, "jitter_after": 1.0,
        "flicker_before": 1.0, "flicker_after": 1.2, "sharpness": 1.004, "change": 3.0,
        "skipped": 0.25, "lost": 0.0,
    }  # fmt: skip
    return Figures(**(values | changes))


def test_verdicts() -> None:
    in_time = {
        "mesh_jitter_before": 1.0, "mesh_jitter_after": 1.1, "unsteadiness_before": 0.4,
        "unsteadiness_after": 0.3, "drift_before": 0.2, "drift_after": 0.1,
    }  # fmt: skip
    rows = {row.name: row for row in figure_rows(figures(**in_time), known=True)}
    assert rows["Mesh jitter, px"].verdict == "10 % less steady"
    assert rows["Unsteadiness, px"].verdict == "25 % steadier"
    assert rows["Drift of identity"].verdict == "50 % more alike"
    assert rows["Landmark jitter, px"].verdict == "50 % steadier"
    assert rows["Flicker, levels"].verdict == "20 % less calm"
    assert rows["Sharpness, × source"].verdict == "as before"
    assert rows["Left alone, %"].after == "25.0"
    rows = {
        row.name: row
        for row in figure_rows(
            figures(jitter_before=0.0, flicker_after=None, sharpness=None), known=False
        )
    }
    assert rows["Landmark jitter, px"].verdict == ""
    assert (rows["Flicker, levels"].after, rows["Flicker, levels"].verdict) == ("–", "")
    assert rows["Sharpness, × source"].after == "–"
    assert rows["Left alone, %"].after == "–"
    assert reasons_text({"too small": 3, "disabled": 1}) == "1 × disabled, 3 × too small"


def test_stretches_that_were_left_alone(plain: MeasuredRestoration) -> None:
    series = tuple(
        figures(seconds=n / 10, skipped=float(n in (0, 1, 5)), faces=1) for n in range(8)
    )
    track = replace(plain.tracks[0], first_seconds=0.0, last_seconds=0.7, series=series)
    found = left_alone(track)
    assert [pytest.approx(span) for span in found] == [(0.0, 0.15), (0.45, 0.55)]


def coordinates(svg: str, colour: str) -> list[tuple[float, float]]:
    """Corners of the line of this colour."""
    (path,) = re.findall(rf'<path d="([^"]*)"[^>]*stroke: {colour}', svg)
    numbers = re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path)
    return [(float(x), float(y)) for x, y in numbers]


def test_lines_are_drawn_to_scale() -> None:
    svg = draw_lines(
        "key",
        [("before", [0, 1, 2], [1, 2, 3]), ("after", [0, 1, 2], [3, None, 1])],
        unit="px",
        span=(0, 2),
        baseline=1.0,
        shaded=[(0.5, 1)],
    )
    before = coordinates(svg, "#d97706")
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(before)]
    assert steps[0] == pytest.approx(steps[1])
    assert steps[0][0] > 0 > steps[0][1]  # to the right and up
    assert "currentColor" in svg
    assert "#123456" not in svg
    assert re.findall("font-family|http|<metadata|<style", svg) == []


def test_spans_are_drawn_to_scale() -> None:
    svg = draw_spans("key", [("#0", [(0, 1, False)]), ("#1", [(1, 4, True)])], seconds=4)
    widths = []
    for path in re.findall(r'<path d="([^"]*)"[^>]*style="fill: (?:#3b82f6|currentColor)', svg):
        x = [float(value) for value in re.findall(r"[ML] ([-\d.]+) ", path)]
        widths.append(max(x) - min(x))
    assert widths[1] == pytest.approx(3 * widths[0], rel=1e-3)
    assert "#1" in svg


def test_a_report_needs_its_extra(
    made_report: MadeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BackendError, match=r"needs matplotlib: pip install 'vqfr-media\[report\]'"):
        write_report(made_report.source, made_report.restored, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(made_report: MadeReport, tmp_path: Path) -> None:
    source, restored, page = made_report.source, made_report.restored, tmp_path / "r.html"
    for taken in (source, restored):
        with pytest.raises(InputError, match="is the input itself"):
            write_report(source, restored, taken)
        with pytest.raises(InputError, match="is the input itself"):
            write_report(source, restored, page, figures=taken)
    with pytest.raises(OptionError, match="are both"):
        write_report(source, restored, page, figures=page)
    with pytest.raises(OutputError, match="no folder"):
        write_report(source, restored, tmp_path / "no" / "r.html")
    with pytest.raises(OptionError, match="max_tracks"):
        write_report(source, restored, page, max_tracks=-1)
    assert list(tmp_path.iterdir()) == []
