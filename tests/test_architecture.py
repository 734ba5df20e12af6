"""The rules of the tree (docs/architecture.md), held by reading and importing the files."""

import ast
import functools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import PACKAGES, ROOT

# What each package may import of the others, everything below a name included.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "vqfr_media": (),
    "vqfr_deform_conv": ("vqfr_media.errors",),
    "vqfr_engines": ("vqfr_media", "vqfr_deform_conv"),
    "vsvqfr": ("vqfr_media.vapoursynth",),
    "vqfr_training": ("vqfr_media",),
}

# The modules of `vqfr_media` that may import `vqfr_engines`, inside functions.
ENGINE_DOORS = {"vqfr_media.engine", "vqfr_media.doctor", "vqfr_media.cli.engine"}

# Third-party packages that one place wraps.
ONLY_IN = {
    "av": ("vqfr_media.media.",),
    "facexlib": ("vqfr_media.faces.retinaface_network", "vqfr_training.evaluation.face_networks"),
}


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return dict(sorted(found.items()))


MODULES = _modules()


@functools.cache
def parsed(module: str) -> ast.Module:
    """The syntax tree of a module, which no test changes."""
    return ast.parse(MODULES[module].read_text())


@functools.cache
def imported(module: str) -> frozenset[str]:
    """What the import statements anywhere in `module` name, down to a module of ours."""
    return frozenset(_imported(parsed(module)))


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: absolute imports only"
            assert child.module is not None
            for alias in child.names:
                name = f"{child.module}.{alias.name}"
                yield name if name in MODULES else child.module


class _WithoutFunctions(ast.NodeTransformer):
    """Drops what runs only when a function is called, and what only type checkers read."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        del node

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


def at_import(module: str) -> set[str]:
    """What importing `module` imports at once."""
    tree = ast.parse(MODULES[module].read_text())  # its own, since the transformer changes it
    return set(_imported(_WithoutFunctions().visit(tree)))


# Every module with every name that it imports.
IMPORTS = [(module, name) for module in MODULES for name in sorted(imported(module))]


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def documented_layers() -> list[list[str]]:
    """The order of `vqfr_media`'s parts as docs/architecture.md gives it, a line a layer."""
    text = (ROOT / "docs/architecture.md").read_text()
    block = text.partition("<!-- layers -->\n```\n")[2].partition("```")[0]
    return [line.split() for line in block.splitlines()]


LAYERS = documented_layers()


def layer_of(name: str) -> int:
    """The layer of `vqfr_media.x...`; what the package itself exports belongs to the last."""
    part = name.split(".")[1] if "." in name else "__init__"
    layers = [number for number, layer in enumerate(LAYERS) if part in layer]
    assert len(layers) == 1, f"{name}: docs/architecture.md has {part} in {len(layers)} layers"
    return layers[0]


def test_the_documented_layers_are_those_of_the_tree() -> None:
    there = {m.split(".")[1] if "." in m else "__init__" for m in MODULES if below(m, "vqfr_media")}
    assert sorted(part for layer in LAYERS for part in layer) == sorted(there)


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, name in IMPORTS
        if below(module, "vqfr_media") and below(name, "vqfr_media")
        if layer_of(name) > layer_of(module)
    ]
    assert wrong == []


def test_packages_keep_apart() -> None:
    wrong = []
    for module, name in IMPORTS:
        package, other = module.split(".")[0], name.split(".")[0]
        allowed = MAY_IMPORT[package]
        if module in ENGINE_DOORS:
            allowed = ("vqfr_engines",)
        if other in {"tests", "benchmarks"}:
            wrong.append(f"{module} imports {name}")
        elif other not in PACKAGES or other == package:
            continue
        elif not any(below(name, parent) for parent in allowed):
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_engines_are_imported_inside_functions() -> None:
    wrong = [
        door for door in ENGINE_DOORS if any(below(n, "vqfr_engines") for n in at_import(door))
    ]
    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also not by way of imports inside functions, which would only hide the circle."""
    graph = {
        module: {name for name in imported(module) if name in MODULES and name != module}
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_wrapped_packages_have_one_door() -> None:
    wrong = []
    for module, name in IMPORTS:
        door = ONLY_IN.get(name.split(".")[0])
        if door is not None and not module.startswith(door):
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_modules_stay_small() -> None:
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > 400} == {}


def test_nothing_prints_or_exits() -> None:
    wrong = []
    for module in MODULES:
        if below(module, "vqfr_media.cli"):
            continue
        allowed = {"sys.exit"} if module.endswith(".__main__") else set()
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                what = ast.unparse(node.func)
                if what in {"print", "exit", "quit", "sys.exit", "os._exit"} - allowed:
                    wrong.append(f"{module}:{node.lineno} calls {what}")
    assert wrong == []


# Names that stand for something else in another file, each with the reason why it may.
SAME_NAME: dict[str, str] = {}


def test_no_two_classes_have_one_name() -> None:
    """Neither classes nor `type` aliases, in the four packages together."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
            elif isinstance(node, ast.TypeAlias):
                places[node.name.id].append(module)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in SAME_NAME} == {}
    assert SAME_NAME.keys() - twice.keys() == set(), "no exception is needed for these"


# Hides the packages in argv[1], imports the modules in argv[2], says what came with them. (None in
# sys.modules is an ImportError for `import`, and an honest "not here" for those who only ask.)
FRESH = """
import importlib, sys
sys.modules.update(dict.fromkeys(filter(None, sys.argv[1].split(","))))
for name in sys.argv[2].split(","):
    importlib.import_module(name)
print(*sorted({n.split(".")[0] for n, m in sys.modules.items() if m}), file=sys.stderr)
"""


def import_afresh(modules: list[str], *, without: tuple[str, ...] = ()) -> set[str]:
    """Top-level packages that importing `modules` loads in a new process, which stays silent."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH, ",".join(without), ",".join(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return set(done.stderr.split("\n")[-2].split())


def modules_under(*parents: str) -> list[str]:
    return [
        module
        for module in MODULES
        if any(below(module, parent) for parent in parents) and not module.endswith("__main__")
    ]


def test_the_package_alone_loads_nothing_heavy() -> None:
    optional = {"tensorrt", "torch_tensorrt", "openvino", "ray", "vapoursynth"}
    loaded = import_afresh(["vqfr_media"])
    assert loaded & (optional | {"facexlib", "av", "torch", "cv2"}) == set()


def test_every_module_imports_without_the_extras_and_in_silence() -> None:
    extras = (
        "tensorrt", "torch_tensorrt", "openvino", "ray", "vapoursynth", "starlette", "uvicorn"
    )  # fmt: skip
    modules = modules_under("vqfr_media", "vqfr_engines", "vqfr_deform_conv")
    import_afresh([m for m in modules if not below(m, "vqfr_media.vapoursynth")], without=extras)


def test_networks_and_training_need_no_media() -> None:
    """GPU machines have torch and OpenCV, but no PyAV, facexlib or OpenVINO."""
    modules = ["vqfr_training.__main__"]
    for parent in ("vqfr_media.network", "vqfr_deform_conv", "vqfr_training"):
        there = modules_under(parent)
        assert there, f"nothing to import under {parent}"
        modules += there
    import_afresh(modules, without=("av", "facexlib", "openvino"))
