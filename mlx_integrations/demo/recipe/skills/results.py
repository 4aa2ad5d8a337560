"""Skill: answer from what a tool returned, also when it returned an error."""

from __future__ import annotations

import json

from mlx_integrations.demo.recipe.case import Case, Message, assistant, calling, result, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.asking import ask_for, ask_twice
from mlx_integrations.demo.recipe.skills.common import chatty, joined, maybe_system
from mlx_integrations.demo.recipe.skills.passages import statement
from mlx_integrations.demo.recipe.toolbox import Offer, any_kind, clash, offer, toolset

_SENTENCES = (
    "It is {weather}.", "It's {weather}.", "It is {weather} and {count} degrees in {city}.",
    "The {noun} is {adjective}.", "Found {count} {items}.",
    "{first} has {count} {items}.", "Order {code} was sent on {day}.", "Done, the {noun} is saved.",
    "Sent to {email}.", "The {noun} costs {price} {currency}.",
    "No {noun} was found.", "Created with id {code}.", "{company} opens at {time}.", "That's a {adjective} {noun}!",
    "There are {count} {items} in {city}.",
    "The next {noun} leaves at {time} from {city}.", "{phrase}.",
)  # fmt: skip
_ERRORS = (
    "Missing required argument '{noun}'.", "'{noun}'", "Argument {noun} must be {adjective}.", "{phrase}", "{phrase}.",
    "Could not find {name}, please try again.", "[Errno {count}] No such file: '{noun}.txt'", "no {noun} for {items}",
    "Unexpected value {number} for {noun}", "The {noun} of {name} is {adjective}.", "Expected {noun}, got {word}",
    "cannot {invented} {expression}", "division by zero", "invalid expression {expression}", "no price for {items}",
    "{noun} not found", "no {noun} named {word}", "timeout after {count} seconds", "invalid {noun}",
    "{word} is not valid", "permission denied", "service not available",
    "division by zero", "unknown city {city}", "could not read {noun}.txt", "connection lost",
    "missing argument {noun}", "no entry for {item}", "wrong format: {code}", "{name} is unknown",
)  # fmt: skip
_ERROR_HEADS = (
    "Error: ",
    "error: ",
    "ERROR: ",
    "Error while calling the tool: ",
    "ValueError: ",
    "KeyError: ",
    "Failed: ",
    "Exception: ",
    "ToolException: ",
    "RuntimeError: ",
)
_KEYS = (
    ("temperature", "{number}"), ("condition", "{weather}"), ("price", "{price}"), ("name", "{name}"),
     ("city", "{city}"), ("status", "{adjective}"), ("{noun}", "{word}"), ("total", "{number}"),
    ("{noun}_count", "{count}"), ("owner", "{name}"), ("date", "{day}"), ("colour", "{colour}"), ("id", "{code}"),
     ("{adjective}_{noun}", "{phrase}"), ("email", "{email}"), ("wind_speed", "{amount}"),
)  # fmt: skip


def returned(draw: Draw, offered: Offer, known: dict[str, str]) -> tuple[str, str]:
    """Returns what the tool gives back and the model's answer to it."""
    roll = draw.rng.random()
    if roll < 0.24:
        text = draw.fill({}, draw.one(_SENTENCES))[0] if draw.chance(0.6) else statement(draw)
        return text, text
    if roll < 0.4:
        message = draw.fill({}, draw.one(_ERRORS))[0]
        return draw.one(_ERROR_HEADS) + message, f"The tool reported an error: {message.removesuffix('.')}."
    if roll < 0.56:
        values: dict[str, object] = {}
        for key, slot in draw.some(_KEYS, draw.int_in(1, 3)):
            name, value = draw.fill({}, key, slot)
            numeric = slot in ("{number}", "{count}", "{amount}")
            values[name] = json.loads(value) if numeric else value
        parts = [f"the {key.replace('_', ' ')} is {value}" for key, value in values.items()]
        answer = joined(parts)
        return json.dumps(values, ensure_ascii=False), answer[0].upper() + answer[1:] + "."
    if roll < 0.6:
        things = [draw.fill({}, "{word}")[0] for _ in range(draw.int_in(2, 4))]
        return json.dumps(things, ensure_ascii=False), f"The results are {joined(things)}."
    if roll < 0.63:
        return draw.one(("[]", "{}", "null", "None", "nothing found")), "The tool found nothing."
    bare = (
        draw.one(offered.kind.results)
        if draw.chance(0.7)
        else draw.one(("{number}", "{phrase}", "{word}", "{code}", "{price}"))
    )
    value = draw.fill({}, bare)[0]
    return value, draw.fill({**known, "result": value}, offered.kind.answer)[0]


def served(draw: Draw, offered: Offer) -> list[Message]:
    """Returns a question, the call, its result and the answer."""
    known: dict[str, str] = {}
    question, call = ask_for(draw, offered, known)
    text, answer = returned(draw, offered, known)
    return [user(chatty(draw, question, tools=True)), calling(call), result(text, offered.name), assistant(answer)]


def _served_twice(draw: Draw, offered: Offer) -> list[Message]:
    """Returns a question, parallel calls, their results and the answer."""
    known: dict[str, str] = {}
    question, calls = ask_twice(draw, offered, known)
    messages = [user(chatty(draw, question, tools=True)), calling(*calls)]
    answers = []
    bare = draw.one(offered.kind.results) if draw.chance(0.6) else ""
    for slot in list(known):
        own = {slot.rstrip("0123456789"): known[slot]}
        if bare:
            text = draw.fill({}, bare)[0]
            answer = draw.fill({**own, "result": text}, offered.kind.answer)[0]
        else:
            text = answer = statement(draw)
        answers.append(answer)
        messages.append(result(text, offered.name))
    return [*messages, assistant(" ".join(answers))]


def make(draw: Draw) -> Case:
    """Returns a conversation in which one or several questions were asked, tools called and the results answered."""
    messages: list[Message] = maybe_system(draw, 0.3)
    offers: list[Offer] = []
    for _ in range(draw.int_in(1, 3)):
        one = offer(draw, any_kind(draw))
        if not any(clash(one, other) for other in offers):
            offers.append(one)
    for _ in range(draw.questions()):
        offered = draw.one(offers)
        twice = offered.kind.again and draw.chance(0.35)
        messages += _served_twice(draw, offered) if twice else served(draw, offered)
    total = max(len(offers), draw.one((1, 1, 2, 3, 4)))
    return Case("tool_results", tuple(messages), toolset(draw, offers, total))
