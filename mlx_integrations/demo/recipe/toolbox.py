"""Kinds of tools that the generator knows: how they are named and described, how people ask for them, what they return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlx_integrations.demo.recipe.case import Tool, tool
from mlx_integrations.demo.recipe.draw import Draw

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Param:
    """A parameter: possible names, JSON type, possible descriptions and the slot that fills it.

    `slot` is empty for an optional parameter that the user has not mentioned.
    """

    names: tuple[str, ...]
    type: str
    slot: str
    descriptions: tuple[str, ...] = ()
    enum: tuple[str, ...] = ()
    required: bool = True


@dataclass(frozen=True)
class ToolKind:
    """A kind of tool.

    Attributes:
        names: Possible names.
        descriptions: Possible descriptions.
        params: Its parameters.
        asks: How a user asks for it; an entry is a text with slots, or a text and the slot of each parameter.
        results: What it may return, with slots.
        answer: The model's sentence for a bare result, where it is not ``The result is ...``.
        group: Kinds of one group could answer the same question, so that no two are offered together.
        again: How the user asks for one more ("and in {city2}"), when parallel calls make sense; the slot that repeats.
    """

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    params: tuple[Param, ...]
    asks: tuple[str | tuple[str, ...], ...]
    results: tuple[str, ...] = ("{number}", "{word}", "{price}")
    answer: str = "The result is {result}."
    again: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Offer:
    """A tool as offered in one conversation, with the parameter names chosen."""

    kind: ToolKind
    tool: Tool
    param_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The tool's name."""
        return str(self.tool["function"]["name"])

    def call(self, draw: Draw, known: dict[str, str], slots: tuple[str, ...]) -> Call:
        """Returns the call whose arguments are `slots`, filled from `known`; an empty slot leaves its parameter out."""
        arguments = {
            name: typed(draw.fill(known, slot)[0], param.type)
            for name, param, slot in zip(self.param_names, self.kind.params, slots, strict=True)
            if slot
        }
        return self.name, arguments


def typed(text: str, type_: str) -> Any:
    """Returns `text` as a value of the JSON type `type_`; an array's texts are separated by ``|``."""
    if type_ == "array":
        return text.split("|")
    if type_ == "boolean":
        return text == "true"
    return text if type_ == "string" else json.loads(text)


def offer(draw: Draw, kind: ToolKind) -> Offer:
    """Returns `kind` with one of its names, descriptions and sets of parameter names."""
    names: list[str] = []
    properties: dict[str, Any] = {}
    described = draw.chance(0.35)
    for param in kind.params:
        name = draw.one([name for name in param.names if name not in names])
        names.append(name)
        schema: dict[str, Any] = {"type": param.type}
        if param.type == "array":
            schema["items"] = {"type": "string"}
        if param.enum:
            schema["enum"] = list(param.enum)
        if not param.required and draw.chance(0.3):
            schema = {"anyOf": [schema, {"type": "null"}]}
        if described and param.descriptions:
            schema["description"] = draw.one(param.descriptions)
        properties[name] = schema
    required = [name for name, param in zip(names, kind.params, strict=True) if param.required]
    description = draw.one(kind.descriptions) if draw.rather(0.99, 0.93) else ""
    if draw.chance(0.3):
        description = description.rstrip(".")
    return Offer(kind, tool(restyled(draw, draw.one(kind.names)), description, properties, required), tuple(names))


def restyled(draw: Draw, name: str) -> str:
    """Returns a snake_case tool name as it is, or in camelCase, or with a suffix."""
    roll = draw.rng.random()
    if roll < (0.08 if draw.unusual else 0.04):
        head, *tail = name.split("_")
        return head + "".join(part.capitalize() for part in tail)
    if roll < (0.14 if draw.unusual else 0.07):
        return name + draw.one(("_tool", "_v2", "_api", "_function"))
    return name


_VERBS = (
    "get", "find", "fetch", "check", "list", "create", "delete", "update", "open", "close", "start", "stop", "count",
    "read", "show", "book", "cancel", "order", "move", "save", "load", "print", "scan", "sort", "merge", "lock",
    "track",
    "measure", "paint", "repair", "rate", "share", "export", "archive", "compute", "apply",
)  # fmt: skip
_KEYS: tuple[tuple[str, str, str], ...] = (
    ("name", "string", "{name}"), ("id", "string", "{code}"), ("city", "string", "{city}"),
     ("code", "string", "{code}"),
    ("key", "string", "{word}"), ("number", "integer", "{integer}"), ("input", "integer", "{integer}"),
    ("value", "number", "{number}"), ("x", "number", "{number}"), ("n", "integer", "{count}"),
     ("date", "string", "{day}"),
    ("title", "string", "{title}"), ("customer", "string", "{name}"), ("text", "string", "{phrase}"),
    ("company", "string", "{company}"), ("year", "integer", "{year}"), ("user", "string", "{first}"),
)  # fmt: skip


def invented_kind(draw: Draw) -> ToolKind:
    """Returns a tool that exists nowhere else: a verb, a noun and keys, known only from its name and description."""
    verb, noun = draw.one(_VERBS), draw.noun() if draw.rather(0.9, 0.8) else f"{draw.adjective()} {draw.noun()}"
    key, type_, slot = draw.one(_KEYS)
    snake = noun.replace(" ", "_")
    name = f"{verb}_{snake}"
    if draw.unusual:
        name = draw.one((name, name, f"{name}_by_{key}", f"{snake}_{verb}", snake))
    said = draw.one(("{slot}", "{slot}", "{slot}", "{key} {slot}", "the {key} {slot}", "'{slot}'", '"{slot}"'))
    said = said.replace("{key}", key).replace("{slot}", slot)
    capital = verb.capitalize()
    asks: tuple[str, ...] = (
        f"{capital} the {noun} for {said}",
        f"{capital} the {noun} of {said}",
        f"Please {verb} the {noun} for {said}",
        f"{capital} a {noun} named {said}",
        f"{capital} a {noun} with {said}",
        f"{capital} {noun} {said}",
        f"I want to {verb} the {noun} for {said}",
        f"{capital} the {noun} and use {said}",
        f"Can you {verb} the {noun} for {said}?",
        f"Could you please {verb} a {noun} for {said}?",
        f"For {said}, {verb} the {noun}",
    )
    if verb in ("get", "find", "fetch", "check", "show", "count", "compute", "read"):
        asks += (
            f"What is the {noun} of {said}?",
            f"What is the {noun} for {said}?",
            f"I need the {noun} for {said}",
            f"Which {noun} does {said} have?",
            f"Tell me the {noun} of {said}.",
        )
    descriptions = (
        f"{capital} the {noun} for a {key}.",
        f"{capital} a {noun}.",
        f"{capital}s the {noun} of the given {key}.",
        f"Use this to {verb} the {noun}.",
        f"Tool for the {noun}: {verb} it by {key}.",
    )
    params = [Param((key,), type_, slot, (f"The {key} of the {noun}.",))]
    if draw.rather(0.1, 0.3):
        params, asks = _more_params(draw, params, asks)
    return ToolKind((name,), descriptions, tuple(params), asks)


def _more_params(draw: Draw, params: list[Param], asks: tuple[str, ...]) -> tuple[list[Param], tuple[str, ...]]:
    """Adds one or two parameters that the user names, and sometimes an optional one that nobody mentions."""
    taken, tails = {params[0].names[0]}, [draw.one((" with", ",", " and", " using"))]
    for key, type_, slot in draw.some(_KEYS, draw.int_in(1, 2)):
        if key in taken:
            continue
        taken.add(key)
        own = slot[:-1] + str(len(taken)) + "}"
        params = [*params, Param((key,), type_, own, (f"The {key}.",))]
        tails.append(draw.one((f" {key} {own}", f" the {key} {own}", f" {key} = {own}", f" {key}: {own}")))
    if len(tails) == 1:
        return params, asks
    if draw.chance(0.3):
        params = [*params, Param(("limit", "verbose", "mode"), draw.one(("integer", "string")), "", (), (), False)]
    tail = tails[0] + tails[1] + "".join(" and" + more for more in tails[2:])
    return params, tuple(ask.rstrip("?.") + tail + ("?" if ask.endswith("?") else "") for ask in asks)


def named_kind(draw: Draw) -> ToolKind:
    """Returns a function that the user calls by its name, such as ``value of blur_function(3)``."""
    stem = draw.one((draw.adjective, draw.invented if draw.unusual else draw.noun, draw.noun))()
    name = draw.one((f"{stem}_function", f"{stem}_{draw.noun()}", f"do_{stem}", stem, f"{stem}_op", f"f_{stem}"))
    key, type_, slot = draw.one(_KEYS)
    if draw.chance(0.4):
        key, type_, slot = "input", "integer", "{integer}"
    descriptions = (
        f"Apply a {stem} function to an input.", f"Calculate a {stem} function.", f"The {stem} function.",
        f"Compute {stem}.", f"Returns the {stem} value.",
    )  # fmt: skip
    if draw.chance(0.25):
        asks: tuple[str, ...] = (
            f"What is the value of {name}()?", f"Call {name}.", f"Run {name}()", f"Use {name} with no arguments.",
            f"What does {name}() return?", f"What is the value of {name}()? Use the tool.", f"Use the {name} tool.",
        )  # fmt: skip
        return ToolKind((name,), descriptions, (), asks)
    quoted = f"'{slot}'" if type_ == "string" else slot
    asks = (
        f"What is the value of {name}({quoted})?", f"What is the value of {name}({quoted})? Use the tool.",
        f"What is {name}({quoted})?", f"What is {name} of {slot}?", f"Call {name} with {slot}.",
         f"Run {name} on {slot}",
        f"Compute {name}({quoted}) with the tool.", f"Apply {name} to {slot}.", f"Use {name} for {slot}.",
        f"Use the tool to get {name}({quoted}).", f"Please evaluate {name}({quoted})",
    )  # fmt: skip
    return ToolKind((name,), descriptions, (Param((key,), type_, slot, ()),), asks)


def any_kind(draw: Draw) -> ToolKind:
    """Returns a known or an invented kind of tool."""
    from mlx_integrations.demo.recipe.toolkinds import KINDS

    if draw.rather(0.9, 0.6):
        return draw.one(KINDS)
    return invented_kind(draw) if draw.chance(0.7) else named_kind(draw)


def clash(first: Offer, second: Offer) -> bool:
    """Says whether two tools cannot be offered together: the same kind, group or name."""
    same_group = first.kind.group != "" and first.kind.group == second.kind.group
    return first.kind is second.kind or same_group or first.name == second.name


def toolset(draw: Draw, offers: list[Offer], total: int, without: str = "") -> tuple[Tool, ...]:
    """Returns the tools of `offers` with others of different kinds, `total` in all, in random order.

    Args:
        draw: Source of chance.
        offers: Tools that must be among them.
        total: How many tools.
        without: A group that must not be among the others.
    """
    chosen, taken = list(offers), {offered.name for offered in offers}
    kinds = {id(offered.kind) for offered in offers}
    while len(chosen) < total:
        kind = any_kind(draw)
        groups = {offered.kind.group for offered in chosen if offered.kind.group} | {without}
        if id(kind) in kinds or (kind.group and kind.group in groups):
            continue
        other = offer(draw, kind)
        if other.name in taken:
            continue
        kinds.add(id(kind))
        taken.add(other.name)
        chosen.append(other)
    draw.rng.shuffle(chosen)
    return tuple(offered.tool for offered in chosen)
