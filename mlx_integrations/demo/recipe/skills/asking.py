"""How users ask for tools: questions together with the calls that answer them."""

from __future__ import annotations

from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.toolbox import Call, Offer


def ask_for(draw: Draw, offered: Offer, known: dict[str, str]) -> tuple[str, Call]:
    """Returns a question that needs `offered`, and the call that answers it."""
    ask = draw.one(offered.kind.asks)
    text, slots = (
        (ask, tuple(param.slot for param in offered.kind.params)) if isinstance(ask, str) else (ask[0], ask[1:])
    )
    question = draw.fill(known, text)[0]
    return question, offered.call(draw, known, slots)


def ask_twice(draw: Draw, offered: Offer, known: dict[str, str]) -> tuple[str, list[Call]]:
    """Returns a question that needs `offered` twice, with different values."""
    question = draw.fill(known, draw.one(offered.kind.again))[0]
    calls: list[Call] = []
    slots = [(slot, slot) for slot in known]
    for slot, _ in slots:
        calls.append(offered.call(draw, known, ("{" + slot + "}",)))
    return question, calls
