"""Who may import whom: the rules of `startkit/__init__.py` and pyproject, held by tests."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
BARE = ("startkit/steps.py", "startkit/kernel.py", "startkit/shim", "startkit/runtime")
# what a bare room may take from the house: each other, and the package's version
HOUSE = {"startkit", "startkit.steps", "startkit.kernel", "startkit.shim", "startkit.runtime"}


def files(place):
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imported(file):
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def is_bare(module):
    top = ".".join(module.split(".")[:2])
    return top in HOUSE or module.split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("place", BARE)
def test_what_runs_in_every_container_uses_the_standard_library_only(place):
    foreign = {
        f"{file.relative_to(ROOT)}: {module}"
        for file in files(place)
        for module in imported(file)
        if not is_bare(module)
    }
    assert not foreign


def test_the_import_contracts_of_pyproject_are_kept(capsys):
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)

    assert code == 0, capsys.readouterr().out


def test_reports_and_judging_know_no_pytest():
    knowing = [
        str(file.relative_to(ROOT))
        for file in files("startkit")
        if any(module.split(".")[0] in {"pytest", "xdist"} for module in imported(file))
    ]
    assert not knowing
