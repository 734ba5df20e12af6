"""What users install: the source archive, the wheel made of it, and the commands it brings."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.paths import ROOT

pytest.importorskip("hatchling", reason="builds the package: pip install hatchling")

# Files beside the code that the packages need at run time.
DATA = {
    "vqfr_media": (
        "py.typed",
        "demo/astronaut.jpg",
        "models/detector.md",
        "models/detector.safetensors",
        "models/face_mesh.md",
        "models/face_mesh.tflite",
        "models/face_mesh_shape.npy",
        "models/identity.md",
        "models/identity.safetensors",
        "models/lite.md",
        "models/lite.safetensors",
        "review/base.css",
        "review/report.html.j2",
        "studio/page.html",
        "studio/studio.css",
        "studio/studio.js",
        "studio/faces.js",
        "studio/wipe.js",
    ),
    "vqfr_engines": ("py.typed",),
    "vqfr_deform_conv": ("py.typed",),
    "vsvqfr": ("py.typed",),
    "vqfr_training": ("py.typed", "detector/labels.json", "evaluation/niqe_pristine.npz"),
}

DEMO_PHOTOGRAPH = "vqfr_media/demo/astronaut.jpg"


def run(*command: object, cwd: Path, timeout: float = 120) -> str:
    """Standard output of a command that ends well, without the checkout on Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, output: Path, *, target: str) -> Path:
    """Builds the "sdist" or the "wheel" of the project in `source`; returns the file."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(output)]
    subprocess.run(command, cwd=source, capture_output=True, check=True, timeout=120)
    (built,) = output.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source archive."""
    folder = tmp_path_factory.mktemp("sdist")
    archive = build(ROOT, folder, target="sdist")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def environment(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel; what the wheel needs comes from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build(source, folder, target="wheel")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site_packages(folder / "venv") / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return folder / "venv"


def site_packages(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python3*/site-packages")
    return folder


def test_the_source_archive_has_everything_that_is_needed_to_build_and_test(source: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile", "README.md", "LICENSE", "docs"):
        assert (source / name).exists(), name
    for parent in ("vqfr_media", "engines", "plugins", "training", "tests"):
        here = {path.relative_to(ROOT) for path in (ROOT / parent).rglob("*.py")}
        there = {path.relative_to(source) for path in (source / parent).rglob("*.py")}
        assert there == here


def test_only_names_of_its_own_are_installed(environment: Path) -> None:
    there = {path.name for path in site_packages(environment).iterdir()} - {"borrowed.pth"}
    assert there == {*DATA, f"vqfr_media-{version('vqfr-media')}.dist-info"}


def test_modules_types_and_data_are_installed(environment: Path) -> None:
    folder = site_packages(environment)
    for package, files in DATA.items():
        assert [name for name in files if not (folder / package / name).is_file()] == []
    text = f"import {', '.join(DATA)}; print(*({', '.join(f'{p}.__file__' for p in DATA)}))"
    output = run(environment / "bin/python", "-c", text, cwd=environment)
    assert output.split() == [str(folder / package / "__init__.py") for package in DATA]


def test_the_installed_command_runs_outside_of_the_checkout(environment: Path) -> None:
    command = environment / "bin/vqfr-media"
    assert version("vqfr-media") in run(command, "--version", cwd=environment)
    run(command, "engine", "list", cwd=environment)


@pytest.mark.slow
def test_the_installed_packages_work(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin/vqfr-media"
    run(command, "demo", "--output", tmp_path / "demo", cwd=tmp_path, timeout=600)
    assert (tmp_path / "demo/restored.mp4").stat().st_size > 0
    for part in ("train", "val"):
        (tmp_path / "data" / part).mkdir(parents=True)
        shutil.copy(site_packages(environment) / DEMO_PHOTOGRAPH, tmp_path / "data" / part)
    smoke = ("-m", "vqfr_training", "smoke", "--data", "data", "--out", "run")
    run(environment / "bin/python", *smoke, cwd=tmp_path, timeout=600)
    assert list((tmp_path / "run").iterdir())
