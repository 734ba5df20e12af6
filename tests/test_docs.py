"""The guides name only what is there: links, source files, modules and options."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.paths import PACKAGES, ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "vqfr_media/models/*.md", "vqfr_media/demo/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # which also names what there was
)
# Where a guide's path may start: the checkout, the guide's own folder, or a package.
STARTS = (ROOT, ROOT / "tests", ROOT / "benchmarks", *PACKAGES.values())
MODULES = {**PACKAGES, "benchmarks": ROOT / "benchmarks"}
# Options of other programs that the guides name.
FOREIGN = {
    "fix", "head", "address", "standalone", "nnodes", "nproc", "rdzv",
    "force-reinstall", "extra-index-url",
}  # fmt: skip

pages = pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])


def code_of(page: Path) -> list[str]:
    """What stands in single backticks or in a block of code."""
    text = page.read_text()
    return [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)]


@cache
def file_names() -> frozenset[str]:
    return frozenset(
        path.name for folder in (*MODULES.values(), ROOT / "tests")
        for path in folder.rglob("*.py")
    )  # fmt: skip


@cache
def words_of_the_code() -> frozenset[str]:
    sources = [path.read_text() for folder in PACKAGES.values() for path in folder.rglob("*.py")]
    return frozenset(re.findall(r"\w+", "\n".join([*sources, (ROOT / "Makefile").read_text()])))


@pages
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    there = [link.partition("#")[0] for link in links if "://" not in link]
    assert [link for link in there if not (page.parent / link).exists()] == []


@pages
def test_links_to_headings_find_them(page: Path) -> None:
    wrong = []
    for name, heading in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        if "://" in name:
            continue
        text = (page.parent / name if name else page).read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        if heading not in anchors:
            wrong.append(f"{name}#{heading}")
    assert wrong == []


@pages
def test_source_files_that_are_named_exist(page: Path) -> None:
    wrong = []
    for code in code_of(page):
        for path in re.findall(r"[\w./-]+\.py\b", code):
            if "/" not in path:
                there = path in file_names()
            else:
                there = any((start / path).exists() for start in STARTS)
            if not there:
                wrong.append(path)
    assert wrong == []


@pages
def test_modules_that_are_named_exist(page: Path) -> None:
    names = []
    for code in code_of(page):
        names += re.findall(rf"\b(?:{'|'.join(MODULES)})(?:\.\w+)+", code)
        names += re.findall(r"python -m ((?!pytest)[\w.]+)", code)
        for module, imported in re.findall(r"from (\w[\w.]+) import ([\w, ]+)", code):
            if module.split(".")[0] in MODULES:
                names += [f"{module}.{name}" for name in imported.split(", ")]
    assert [name for name in names if not is_there(name)] == []


def is_there(name: str) -> bool:
    """Whether there is a module of this name, or a module with a word of its last part."""
    package, *parts = name.split(".")
    if package not in MODULES:
        return False
    module = MODULES[package].joinpath(*parts)
    if module.is_dir() or module.with_suffix(".py").is_file():
        return True
    parent = module.parent.with_suffix(".py")
    parent = parent if parent.is_file() else module.parent / "__init__.py"
    return parent.is_file() and re.search(rf"\b{parts[-1]}\b", parent.read_text()) is not None


@pages
def test_options_that_are_named_exist(page: Path) -> None:
    wrong = []
    for code in code_of(page):
        for option in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", code):
            name = option.removeprefix("no-").replace("-", "_")
            if name not in words_of_the_code() and option not in FOREIGN:
                wrong.append(f"--{option}")
    assert wrong == []
