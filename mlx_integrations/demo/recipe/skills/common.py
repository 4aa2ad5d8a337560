"""What several skills share: system prompts, and small changes in how people write."""

from __future__ import annotations

from typing import Final

from mlx_integrations.demo.recipe.case import Message, system
from mlx_integrations.demo.recipe.draw import Draw

_SYSTEM_PROMPTS: Final = (
    "You are a helpful assistant.", "You are a helpful assistant. Answer in one sentence.", "Be brief.",
    "Answer briefly.",
    "You are a friendly assistant.", "You help people with their work.",
    "You are a bot that uses tools when they fit.",
    "Use the tools when you need them.", "You are an agent. Use tools to answer.", "Be polite and short.", "hello",
    "You are {first}, an assistant of {company}.", "You work for {company}. Be kind to customers.",
    "you're a good assistant",
    "You are an assistant for {job}s in {city}.", "Today is {weekday}.",
    "Answer the user's questions. Today is {day}.",
    "You answer questions about {topic}.", "Think about which tool fits, then call it.",
    "The user's language is {language}.",
)  # fmt: skip

_OPENERS: Final = (
    "Hi, ", "Hello! ", "Hey, ", "Please: ", "Quick question: ", "Tell me: ", "Hi there. ", "One question. ",
    "I wonder: ",
    "Good morning. ", "Thanks! ", "OK. ", "Now: ", "So, ", "Another question: ", "Hello, ",
)  # fmt: skip
_CLOSERS: Final = (
    " Thanks!",
    " Thank you.",
    " Please.",
    " Please use a tool.",
    " Use the tool.",
    " Thanks in advance.",
)


def maybe_system(draw: Draw, probability: float = 0.4) -> list[Message]:
    """Returns a system message in a list, or an empty list."""
    if not draw.chance(probability):
        return []
    prompts = draw.some(_SYSTEM_PROMPTS, 1 if draw.chance(0.75) else draw.int_in(2, 5))
    return [system(draw.one((" ", " ", "\n")).join(draw.fill({}, *prompts)))]


def chatty(draw: Draw, text: str, *, tools: bool = False) -> str:
    """Returns `text` as somebody might type it: with an opener, a closer, without a full stop, or as it is.

    Args:
        draw: Source of chance.
        text: What is asked.
        tools: Whether a closer may speak of tools.
    """
    roll = draw.rng.random()
    if roll < 0.16:
        text = draw.one(_OPENERS) + text
    elif roll < 0.22 and text[-1:] in ".?!":
        text += draw.one(_CLOSERS if tools else _CLOSERS[:3])
    elif roll < 0.25:
        text = text.rstrip(".?") + draw.one((" please", ", please", " please?", ", please.", "!", " thanks"))
    elif roll < 0.3 and text[1:2].islower():
        text = text[0].lower() + text[1:]
    elif roll < 0.36 and text.endswith((".", "?")):
        text = text[:-1]
    return text


def joined(parts: list[str]) -> str:
    """Returns ``a``, ``a and b`` or ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
