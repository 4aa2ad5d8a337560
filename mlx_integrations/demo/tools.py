"""Three real tools for the tour's agent; plain functions, as any agent framework takes them.

What a tool cannot do comes back as text that starts with `Error:`, so that the model can say so.
"""

import ast
import operator
import tomllib
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

__all__ = ["calculator", "days_between", "evaluate", "lookup_price"]

_PRICES = Path(__file__).parent / "data" / "prices.toml"
_MAX_EXPRESSION_LENGTH = 200
_MAX_EXPONENT = 64

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    try:
        value = evaluate(expression)
    except (ValueError, ArithmeticError) as exc:
        return f"Error: {exc}"
    return str(round(value, 2))


def days_between(start: str, end: str) -> str:
    """Count the days between two dates."""
    try:
        return str(abs((date.fromisoformat(end) - date.fromisoformat(start)).days))
    except ValueError as exc:
        return f"Error: {exc}"


def lookup_price(item: str) -> str:
    """Look up the price of an item."""
    prices, name = _prices(), item.strip().lower()
    for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
        if candidate in prices:
            return prices[candidate]
    return f"Error: no price for {item}"


def evaluate(expression: str) -> float:
    """Evaluate numbers, `+ - * / // % **` and parentheses; nothing else is ever executed.

    Raises:
        ValueError: It is not such an expression, or it is too long.
        ArithmeticError: A division by zero, or a number that is too large.
    """
    if len(expression) > _MAX_EXPRESSION_LENGTH:
        raise ValueError(f"expression longer than {_MAX_EXPRESSION_LENGTH} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError) as exc:
        raise ValueError(f"invalid expression {expression}") from exc
    return _value(tree.body)


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return value  # type: ignore[return-value]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=base, op=ast.Pow(), right=power):
            return _power(_value(base), _value(power))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_value(left), _value(right))
    raise ValueError(f"cannot calculate {ast.unparse(node)}")


def _power(base: float, exponent: float) -> float:
    """Refuse powers that would take for ever or are not real numbers."""
    if abs(exponent) > _MAX_EXPONENT or (base < 0 and exponent != int(exponent)):
        raise ValueError(f"cannot calculate {base} ** {exponent}")
    return float(base**exponent)


@cache
def _prices() -> dict[str, str]:
    return tomllib.loads(_PRICES.read_text(encoding="utf-8"))
