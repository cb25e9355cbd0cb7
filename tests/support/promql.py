"""What a PromQL expression reads, by a parser of its own."""

from __future__ import annotations

from promql_parser import Expr, VectorSelector, parse, walk


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics in an expression. Raises ValueError when it is none."""
    return {selector.name for selector in selectors_in(expression) if selector.name is not None}


def selectors_in(expression: str) -> list[VectorSelector]:
    """The selectors of series in an expression. Raises ValueError when it is none."""
    found: list[VectorSelector] = []

    def visit(node: Expr) -> bool:
        if isinstance(node, VectorSelector):
            found.append(node)
        return True

    walk(parse(expression), visit)
    return found
