"""The rules of the tree (docs/architecture.md), held by reading and importing the files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("vqfr_media", "training")
SOURCES = sorted(path for top in PRODUCT for path in (ROOT / top).rglob("*.py"))

# A module imports only from its own layer or from those before it.
LAYERS = (
    {"frames", "values", "errors", "options"},
    {
        "windows",
        "media",
        "faces",
        "temporal",
        "resize",
        "network",
        "download",
        "weights",
        "weights_table",
        "manifest",
        "openvino_library",
        "summary",
        "tracks",
        "tracks_file",
    },
    {"backends", "plugins"},
    {"engines"},
    {"engine"},
    {"restore", "prepare", "sharing", "stream"},
    {"segments", "identity", "work_folder", "resume"},
    {"pipeline", "find", "random_access", "doctor", "demo", "look"},
    {"batch"},
    {"distributed"},
    {"commands", "commands_batch", "commands_look", "cli", "vapoursynth", "__init__", "__main__"},
)

# What a package must never import; `vqfr_media` may import the others inside functions of cli/.
NEVER = {
    "vqfr_media": {"tests", "benchmarks"},
    "training": {"tests", "benchmarks"},
}

# Third-party packages that one place wraps.
ONLY_IN = {
    "av": ("vqfr_media/media/",),
    "facexlib": ("vqfr_media/faces/detect.py", "training/face_networks.py"),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names of what the import statements under `node` may load."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: absolute imports only"
            assert child.module is not None
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


def outside_functions(tree: ast.Module) -> ast.Module:
    """The tree without what runs only when a function is called."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            del node

    return ast.fix_missing_locations(Strip().visit(tree))  # type: ignore[no-any-return]


def layer_of(name: str) -> int:
    """Layer of `vqfr_media.x...`; a name of the package itself belongs to its `__init__`."""
    part = name.split(".")[1]
    for number, layer in enumerate(LAYERS):
        if part in layer:
            return number
    package = ROOT / "vqfr_media"
    is_module = (package / f"{part}.py").exists() or (package / part).is_dir()
    assert not is_module, f"{name} has no layer: give vqfr_media/{part} one in LAYERS"
    return len(LAYERS) - 1


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.is_relative_to(ROOT / "vqfr_media")], ids=name_of
)
def test_imports_point_down(path: Path) -> None:
    here = layer_of(module_name(path))
    for name in imported(ast.parse(path.read_text())):
        if name.startswith("vqfr_media."):
            assert layer_of(name) <= here, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_packages_keep_apart(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text())
    for name in imported(tree):
        top = name.split(".")[0]
        assert top not in NEVER[package], f"{name_of(path)} imports {name}"
    if package == "vqfr_media":
        lazily = outside_functions(tree) if "cli" in path.parts else tree
        for name in imported(lazily):
            assert name.split(".")[0] not in PRODUCT[1:], f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_wrapped_packages_have_one_door(path: Path) -> None:
    for name in imported(ast.parse(path.read_text())):
        door = ONLY_IN.get(name.split(".")[0])
        assert door is None or name_of(path).startswith(door), f"{name} belongs in {door}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name != "cli"], ids=name_of)
def test_nothing_prints_or_exits(path: Path) -> None:
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    for call in calls:
        what = ast.unparse(call)
        allowed = {"sys.exit"} if path.name == "__main__.py" else set()
        assert what not in {"print", "exit", "quit", "sys.exit", "os._exit"} - allowed, (
            f"{name_of(path)}:{call.lineno} calls {what}"
        )


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
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return set(done.stderr.split("\n")[-2].split())


def modules_under(folder: str) -> list[str]:
    paths = (p for p in SOURCES if p.is_relative_to(ROOT / folder) and p.name != "__main__.py")
    return [module_name(p).removesuffix(".__init__") for p in paths]


def test_the_package_alone_loads_nothing_heavy() -> None:
    optional = {"tensorrt", "torch_tensorrt", "openvino", "ray", "vapoursynth"}
    loaded = import_afresh(["vqfr_media"])
    assert loaded & (optional | {"facexlib", "av", "torch", "cv2"}) == set()


def test_every_module_imports_without_the_extras_and_in_silence() -> None:
    extras = ("tensorrt", "torch_tensorrt", "openvino", "ray", "vapoursynth")
    modules = [m for m in modules_under("vqfr_media") if not m.startswith("vqfr_media.vapoursynth")]
    import_afresh(modules, without=extras)


@pytest.mark.parametrize("folder", ["vqfr_media/network", "training"])
def test_networks_and_training_need_no_media(folder: str) -> None:
    modules = modules_under(folder)
    assert modules, f"nothing to import under {folder}"
    import_afresh(modules, without=("av", "facexlib", "openvino"))
