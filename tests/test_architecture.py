"""The contracts of pyproject.toml that say which room may import what, and rules that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlx_integrations"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 600


def test_imports_point_in_the_right_direction(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_only_lazy_packages_import_by_string() -> None:
    """The contracts read import statements; a module that imports by string would slip past them."""
    sinners = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.name != "__init__.py"
        and any(name in path.read_text(encoding="utf-8") for name in ("import_module", "__import__("))
    ]
    assert sinners == []


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_stays_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for function in _functions(ast.parse(text)):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= 80, f"{function.name} has {lines} lines: it is probably two ideas"
