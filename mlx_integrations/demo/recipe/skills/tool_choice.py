"""Skill: choose a tool, copy its arguments, call it in parallel, or call none."""

from __future__ import annotations

from mlx_integrations.demo.recipe.case import Case, Message, assistant, calling, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.asking import ask_for, ask_twice
from mlx_integrations.demo.recipe.skills.common import chatty, maybe_system
from mlx_integrations.demo.recipe.skills.results import served
from mlx_integrations.demo.recipe.skills.small_talk import NO_TOOL_FITS, exchange, talk, unknown
from mlx_integrations.demo.recipe.toolbox import Call, Offer, any_kind, clash, offer, toolset


def make(draw: Draw) -> Case:
    """Returns a question with one to eight tools and the right call, calls or refusal."""
    most = draw.one((1, 1, 2, 2, 3, 3, 4, 5, 6, 8) if draw.unusual else (1, 2, 2, 3, 3, 4, 5, 6))
    total = most if draw.chance(0.97) else draw.int_in(9, 20)
    messages: list[Message] = maybe_system(draw, 0.3)
    roll = draw.rng.random()
    if roll < 0.1:
        tools = toolset(draw, [], total, without="knowledge")
        if draw.chance(0.5):
            question, reply = talk(draw)
        else:
            question, reply = unknown(draw), NO_TOOL_FITS
        return Case("tool_choice", (*messages, user(question), assistant(reply)), tools)
    if draw.chance(0.06):
        messages += exchange(draw, tools=True)
    if roll < 0.2:
        offered = offer(draw, any_kind(draw))
        while not offered.kind.again:
            offered = offer(draw, any_kind(draw))
        question, calls = ask_twice(draw, offered, {})
        return _case(draw, messages, question, calls, [offered], total)
    if roll < (0.25 if draw.unusual else 0.21):
        first, second = offer(draw, any_kind(draw)), offer(draw, any_kind(draw))
        if not clash(first, second):
            one, call = ask_for(draw, first, {})
            two, call_two = ask_for(draw, second, {})
            lowered = two[0].lower() + two[1:] if two[1:2].islower() else two
            question = draw.one(
                (f"{one.rstrip('.?')}, then {lowered}",)
                if not draw.unusual
                else (f"{one} {two}", f"{one.rstrip('.?')} and {lowered}", f"{one.rstrip('.?')}, then {lowered}")
            )
            return _case(draw, messages, question, [call, call_two], [first, second], max(total, 2))
    offered = offer(draw, any_kind(draw))
    question, call = ask_for(draw, offered, {})
    other = offer(draw, any_kind(draw))
    if draw.chance(0.4) and not clash(offered, other):
        for _ in range(draw.questions() - 1):
            messages += served(draw, draw.one((offered, other)))
        return _case(draw, messages, question, [call], [offered, other], max(total, 2))
    return _case(draw, messages, question, [call], [offered], total)


def _case(
    draw: Draw, messages: list[Message], question: str, calls: list[Call], offers: list[Offer], total: int
) -> Case:
    tools = toolset(draw, offers, total)
    return Case("tool_choice", (*messages, user(chatty(draw, question, tools=True)), calling(*calls)), tools)
