"""Each promise in docs/architecture.md is proven twice: fast, by its rule, and for real, on an assembled room."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.documents import ROOT

TESTS = ROOT / "tests"
PROMISE = re.compile(r"^(\d+)\. \*\*", re.MULTILINE)


def promised(page: str) -> list[int]:
    """The numbers in the list of promises."""
    section = page.partition("\n## Promises\n")[2].partition("\n## ")[0]
    return [int(number) for number in PROMISE.findall(section)]


def marked(source: str) -> Iterator[tuple[int, str]]:
    """Each promise that a test of the file is marked with, and all that stands in that test's decorators."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            decorators = " ".join(ast.unparse(decorator) for decorator in function.decorator_list)
            for number in re.findall(r"mark\.promise\((\d+)\)", decorators):
                yield int(number), decorators


def proofs(*folders: str) -> set[int]:
    """The promises of which a test in the folders is a proof in `make test`."""
    found = set()
    for folder in folders:
        for path in (TESTS / folder).rglob("test_*.py"):
            for number, decorators in marked(path.read_text()):
                # a parameter of it may be for later, not all of it
                later = re.sub(r"pytest\.param\(.*?marks=.*?\)", "", decorators)
                if not re.search(r"mark\.(gate|soak)\b", later):
                    found.add(number)
    return found


def test_every_promise_has_a_fast_and_a_real_proof() -> None:
    listed = promised((ROOT / "docs" / "architecture.md").read_text())
    assert listed == list(range(1, len(listed) + 1))
    assert len(listed) >= 10
    assert proofs("unit", "integration") == set(listed)
    assert proofs("acceptance") == set(listed)


def test_proof_that_make_test_leaves_out_is_none() -> None:
    source = """
@pytest.mark.promise(3)
@pytest.mark.parametrize("many", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a(many): ...
@pytest.mark.gate
@pytest.mark.promise(4)
def test_b(): ...
def test_c(): ...
"""
    (third, first), (fourth, second) = marked(source)
    assert (third, fourth) == (3, 4)
    assert "mark.soak" in first
    assert "mark.gate" in second
