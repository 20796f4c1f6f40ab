"""The shape of the house: layers, a light front door, true menus, documented options, a drawn error tree."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_mlcc
from pytest_mlcc import errors
from pytest_mlcc.settings import OPTIONS, Settings

ROOT = Path(pytest_mlcc.__file__).parent
HEAVY = ("boto3", "botocore", "sagemaker", "ministack", "torch", "transformers", "pydantic", "rich")


def modules() -> list[str]:
    """Every module of ours but the engine's child sides, which import torch, and programs that run on import."""
    children = ("pytest_mlcc.localaws.engine.", "pytest_mlcc.localaws.emulator", "pytest_mlcc.localaws.server", "pytest_mlcc.aws.site")
    found = [module.name for module in pkgutil.walk_packages([str(ROOT)], "pytest_mlcc.")]
    return [name for name in found if not name.startswith(children)]


def test_imports_point_one_way() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, check=False)
    assert done.returncode == 0, done.stdout


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    """Every pytest run in an environment with this plugin would pay for it, and every xdist worker once more."""
    code = "import sys, pytest_mlcc.plugin; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []
    assert "pytest_mlcc.assemble" not in loaded


@pytest.mark.parametrize("name", modules())
def test_a_menu_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    menu = getattr(module, "__all__", [])
    assert list(menu) == sorted(menu, key=lambda word: (not word.isupper(), not word[:1].isupper(), word)) or list(menu) == sorted(menu)
    assert [word for word in menu if not hasattr(module, word)] == []


def test_every_option_is_declared_once_documented_and_has_a_setting() -> None:
    names = [option.name for option in OPTIONS]
    assert len(names) == len(set(names))
    assert set(names) == {name for name in Settings.__dataclass_fields__ if name != "sources"}
    assert [option.name for option in OPTIONS if len(option.help) < 20 or not option.help.endswith(".")] == []


def test_the_error_tree_equals_its_drawing() -> None:
    drawing = errors.__doc__ or ""
    depth = {match[2]: len(match[1]) for match in re.finditer(r"^([│├└─ ]+)(\w+) {2,}", drawing, re.MULTILINE)}
    real = [
        one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.MlccError) and one is not errors.MlccError
    ]
    assert set(depth) == {one.__name__ for one in real}
    for one in real:
        parent = one.__mro__[1].__name__
        assert depth[one.__name__] > depth.get(parent, 0), f"{one.__name__} is not drawn below {parent}"


def definitions() -> list[tuple[str, ast.AST]]:
    """Every function and class of ours with its place."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    trees = [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in ROOT.rglob("*.py")]
    return [(f"{path}:{node.lineno}", node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]


def test_no_file_is_over_450_lines_and_no_function_over_60() -> None:
    files = [str(path) for path in ROOT.rglob("*.py") if path.read_text(encoding="utf-8").count("\n") > 450]
    functions = [place for place, node in definitions() if not isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= 60]
    assert files + functions == []


def test_every_public_name_has_a_docstring() -> None:
    top = [(place, node) for place, node in definitions() if node.col_offset == 0 and not node.name.startswith("_")]
    assert [place for place, node in top if not ast.get_docstring(node)] == []
