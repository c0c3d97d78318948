"""Imports go one way: a module imports from its own folder, or from what stands before it."""

import ast
import graphlib
from pathlib import Path

import airjax

ROOT = Path(airjax.__file__).parent
ORDER = [
    "errors", "checks", "models", "picture_config", "config", "config_file", "storage", "interrupt",
    "console", "precision",
    "trace_cache", "own_background", "background", "object_size", "detail", "data", "programs",
    "inference", "training", "three_d", "air", "interop", "prediction", "tracking", "demo", "cli",
    "napari", "__main__",
]  # fmt: skip


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} has a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & MODULES.keys()) or {node.module}
    return {name for name in names if name in MODULES} - {"airjax"}  # it holds the version


def wing(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_its_place():
    assert {wing(module) for module in MODULES if module != "airjax"} == set(ORDER)


def test_imports_go_one_way():
    for module, path in MODULES.items():
        for other in imported(path) if module != "airjax" else ():
            assert ORDER.index(wing(other)) <= ORDER.index(wing(module)), f"{module}: {other}"


def test_no_circles_within_a_wing():
    graphlib.TopologicalSorter({m: imported(path) for m, path in MODULES.items()}).prepare()


def test_settings_and_programs_do_not_know_the_command_line():
    for module, path in MODULES.items():
        if module != "airjax" and wing(module) not in ("cli", "__main__"):
            assert "tyro" not in path.read_text(), module
