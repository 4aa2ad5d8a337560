"""One module per skill; each makes a conversation from a `Draw`.

`SKILLS` maps a skill's name to its generator and its share of the training text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mlx_integrations.demo.recipe.case import Case
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills import agents, memory, passages, results, schemas, small_talk, tool_choice

SKILLS: Final[dict[str, tuple[Callable[[Draw], Case], float]]] = {
    "small_talk": (small_talk.make, 0.04),
    "passages": (passages.make, 0.36),
    "tool_choice": (tool_choice.make, 0.12),
    "tool_results": (results.make, 0.06),
    "agents": (agents.make, 0.1),
    "memory": (memory.make, 0.06),
    "schemas": (schemas.make, 0.26),
}


def make(skill: str, draw: Draw) -> Case:
    """Returns one conversation of `skill`."""
    return SKILLS[skill][0](draw)
