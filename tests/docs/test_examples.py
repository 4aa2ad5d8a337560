"""Every example in README.md, docs/ and docstrings runs.

Fences that start with ```python are executed in order, in one namespace per file; ```python no-run only shows code that
needs something a test machine lacks. Top-level `await` is allowed, as in a notebook.
"""

import ast
import asyncio
import doctest
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```python(?P<info>[^\n]*)\n(?P<code>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_DOCTESTED = [
    path
    for path in sorted((ROOT / "mlx_integrations").rglob("*.py"))
    if re.search(r"^ *>>> ", path.read_text("utf-8"), re.MULTILINE)
]


@dataclass(frozen=True)
class Example:
    """One fence: its code and the line it starts on."""

    code: str
    line: int


def _examples(page: Path) -> Iterator[Example]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        if match["info"].strip() == "":
            yield Example(match["code"], text.count("\n", 0, match.start("code")))
        else:
            assert match["info"].strip() == "no-run", f"{page}: unknown fence `python{match['info']}`"


def _run(example: Example, page: Path, namespace: dict[str, object]) -> None:
    # Blank lines in front make tracebacks point at the line in the page.
    source = "\n" * example.line + example.code
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, namespace))
    else:
        exec(code, namespace)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(_examples(page))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A real module, so that annotations of classes and tools defined in an example can be resolved.
    module = ModuleType(f"example_{page.stem}".replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for example in _examples(page):
        _run(example, page, module.__dict__)
    # Chroma keeps what it opened under the name it was opened by, which another page may mean another folder by.
    if (chroma := sys.modules.get("chromadb.api.shared_system_client")) is not None:
        chroma.SharedSystemClient.clear_system_cache()


def test_what_is_only_shown_names_what_exists() -> None:
    """Imports from this package in fences that do not run."""
    for page in PAGES:
        for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
            if match["info"].strip() != "no-run":
                continue
            imports = [node for node in ast.walk(ast.parse(match["code"])) if isinstance(node, ast.ImportFrom)]
            for node in imports:
                if (node.module or "").partition(".")[0] == "mlx_integrations":
                    for name in node.names:
                        assert pkgutil.resolve_name(f"{node.module}:{name.name}") is not None, page


def test_the_examples_in_docstrings_run() -> None:
    for path in _DOCTESTED:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        failed, tried = doctest.testmod(pkgutil.resolve_name(name), optionflags=doctest.ELLIPSIS)
        assert tried > 0, path
        assert failed == 0, path


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_readme_starts_with_the_two_commands() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert re.findall(r"^make \w+", head, re.MULTILINE) == ["make demo", "make test"]
