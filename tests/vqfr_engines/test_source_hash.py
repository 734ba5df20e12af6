"""The hash of our code: complete, blind to what is only said, and the same wherever it lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import vqfr_deform_conv
import vqfr_engines
from vqfr_engines.source_hash import code_sha256, modules_of

import vqfr_media
from vqfr_media.errors import BackendError
from vqfr_media.manifest import BuiltBackend
from vqfr_media.network import __file__ as network_file

CODE = '''
"""A module."""

WIDTH = 3
"""Pixels."""


class Layer:
    """A layer."""

    def double(self, x: int) -> int:
        """Twice `x`."""
        return 2 * x  # as published
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `hashed_package.layers`, which holds `CODE`."""
    folder = tmp_path / "hashed_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hashed_package", raising=False)
    (folder / "layers.py").write_text(CODE)
    return folder / "layers.py"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another sentence,\n\nand more."""'),
        ('"""A module."""', ""),
        ('"""Pixels."""', '"""Unit: pixels."""'),
        ('"""A layer."""', ""),
        ('"""Twice `x`."""', '"""Returns two times `x`."""'),
        ("# as published", ""),
        ("2 * x", "(2\n * x)"),
    ],
)
def test_words_and_layout_do_not_count(module: Path, old: str, new: str) -> None:
    before = code_sha256(["hashed_package.layers"])
    assert old in CODE
    module.write_text(CODE.replace(old, new))
    assert code_sha256(["hashed_package.layers"]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 * x", "3 * x"),
        ("2 * x", "x * 2"),
        ("2 * x", "2 * x + 0"),
        ("2 * x", "'2' * x"),
        ("WIDTH = 3", "WIDTH = '3'"),
        ("WIDTH = 3", ""),
        ("x: int", "x: float"),
        ("def double", "def twice"),
    ],
)
def test_code_counts(module: Path, old: str, new: str) -> None:
    before = code_sha256(["hashed_package.layers"])
    assert old in CODE
    module.write_text(CODE.replace(old, new))
    assert code_sha256(["hashed_package.layers"]) != before


def test_the_hash_is_the_same_with_every_python(module: Path) -> None:
    """Known once; a Python whose trees are written otherwise would make every engine stale."""
    module.write_text("def f(x):\n    return None if x else 0.5\n")
    assert code_sha256(["hashed_package.layers"]) == (
        "9695a86d137d4079814563e540243f5d48e2904fb0410472764b9497b61d540b"
    )


def test_names_and_order_count(module: Path) -> None:
    shutil.copyfile(module, module.with_name("other.py"))
    one, other = ("hashed_package.layers", "hashed_package.other")
    hashes = {code_sha256(names) for names in ([one], [other], [one, other], [other, one])}
    assert len(hashes) == 4


def test_no_modules_and_missing_sources_are_refused(module: Path) -> None:
    with pytest.raises(ValueError, match="must be modules to hash"):
        code_sha256([])
    module.unlink()
    for name in ("hashed_package.layers", "no_such_package.layers"):
        with pytest.raises(BackendError, match=f"the source of {name} is not here, .*install vqfr"):
            code_sha256([name])


# They decide nothing that an engine computes: a docstring alone; the network of identities, of
# which no engine is made; how an engine is asked for, found, compiled and compared; a format for
# other programs.
NOT_HASHED = {
    "vqfr_media.network.__init__",
    "vqfr_media.network.dlib_identity",
    "vqfr_deform_conv.__init__",
    "vqfr_engines.__init__",
    "vqfr_engines.activations",
    "vqfr_engines.bench",
    "vqfr_engines.build",
    "vqfr_engines.engine_checks",
    "vqfr_engines.load",
    "vqfr_engines.machine_facts",
    "vqfr_engines.onnx",
    "vqfr_engines.own_process",
    "vqfr_engines.parity",
    "vqfr_engines.random_networks",
    "vqfr_engines.request",
    "vqfr_engines.selftest",
    "vqfr_engines.selftest_engine",
    "vqfr_engines.selftest_kernels",
    "vqfr_engines.selftest_plugin",
    "vqfr_engines.selftest_point",
    "vqfr_engines.selftest_tensorrt",
    "vqfr_engines.selftest_torch",
    "vqfr_engines.source_hash",
    "vqfr_engines.store",
    "vqfr_engines.toolchain",
    "vqfr_engines.verify",
}


def test_every_module_is_hashed_or_said_not_to_be() -> None:
    there = {
        f"{package}.{path.stem}"
        for package, init in (
            ("vqfr_media.network", network_file),
            ("vqfr_deform_conv", vqfr_deform_conv.__file__),
            ("vqfr_engines", vqfr_engines.__file__),
        )
        for path in Path(str(init)).parent.glob("*.py")
    }
    hashed = {module for backend in get_args(BuiltBackend) for module in modules_of(backend)}
    assert hashed & NOT_HASHED == set()
    assert hashed | NOT_HASHED == there


@pytest.mark.parametrize("backend", get_args(BuiltBackend))
def test_no_module_is_hashed_twice(backend: BuiltBackend) -> None:
    modules = modules_of(backend)
    assert len(set(modules)) == len(modules)
    assert f"vqfr_engines.{backend}" in modules


def test_an_installed_copy_has_the_same_hash(tmp_path: Path) -> None:
    for package in (vqfr_media, vqfr_engines, vqfr_deform_conv):
        source = Path(str(package.__file__)).parent
        ignored = shutil.ignore_patterns("models", "__pycache__")
        shutil.copytree(source, tmp_path / source.name, ignore=ignored)
    program = (
        "from vqfr_engines import source_hash as s\n"
        "print(s.__file__)\n"
        "for b in ('openvino', 'inductor', 'tensorrt'): print(s.code_sha256(s.modules_of(b)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    file, *hashes = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert hashes == [code_sha256(modules_of(b)) for b in ("openvino", "inductor", "tensorrt")]
