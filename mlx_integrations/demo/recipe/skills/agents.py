"""Skill: work in several steps, using what one tool returned in the call of the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from mlx_integrations.demo.recipe.case import Case, Message, assistant, calling, result, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.asking import ask_for
from mlx_integrations.demo.recipe.skills.common import chatty, maybe_system
from mlx_integrations.demo.recipe.skills.results import returned, served
from mlx_integrations.demo.recipe.toolbox import Offer, Param, ToolKind, any_kind, clash, offer, toolset
from mlx_integrations.demo.recipe.toolkinds import CALCULATOR, CONVERT, DAYS_BETWEEN, KINDS, PRICE, WEATHER

Chain = tuple[list[Message], list[Offer]]
_P = Param

_LOOKUP: Final = ToolKind(
    ("lookup", "lookup_item", "find_entry", "look_up", "search_file", "get_entry", "lookup_fact"),
    ("Look up an item in the file.", "Look up one entry.", "Find what the file says about an item.",
     "Facts about an item from a small file."),
    (_P(("item", "key", "name", "entry", "query"), "string", "{item}", ("The item to look up.",)),),
    ("Look up {item}.",),
)  # fmt: skip


def _step(messages: list[Message], offered: Offer, arguments: list[object], returned_text: str) -> None:
    """Adds a call and its result to `messages`."""
    named = dict(zip(offered.param_names, arguments, strict=False))
    messages += [calling((offered.name, named)), result(returned_text, offered.name)]


def _number(value: float) -> str:
    return str(round(value, 2))


def _cost_of_many(draw: Draw) -> Chain:
    """Price of an item, then its price times a quantity."""
    price, calculator = offer(draw, PRICE if draw.chance(0.75) else _LOOKUP), offer(draw, CALCULATOR)
    count, items, cost = draw.count(), draw.items(), draw.price()
    question = draw.one((
        f"How much do {count} {items} cost?", f"What do {count} {items} cost?",
         f"What is the price of {count} {items}?", f"I want to buy {count} {items}. How much is that?",
        f"How much are {count} {items}?", f"Cost of {count} {items}?", f"I need {count} {items}, what do I pay?",
         f"What do I pay for {count} {items}?", f"Price for {count} {items}, please.",
        f"How much would {count} {items} cost me?", f"Tell me the total price of {count} {items}.",
         f"How much money do I need for {count} {items}?",
    ))  # fmt: skip
    messages = [user(chatty(draw, question, tools=True))]
    said = draw.one(
        (
            cost,
            cost,
            cost,
            f"{cost} {draw.currency()}",
            f"{items} cost {cost} each",
            f"The price is {cost}",
            json.dumps({"price": float(cost)}),
            json.dumps({"item": items, "price": float(cost)}),
        )
    )
    _step(messages, price, [items], said)
    cost = str(float(cost)) if said.startswith("{") else cost
    _step(messages, calculator, [f"{count} * {cost}"], total := _number(int(count) * float(cost)))
    messages.append(assistant(f"{count} {items} cost {total}."))
    return messages, [price, calculator]


def _cost_of_two(draw: Draw) -> Chain:
    """Prices of two items in parallel, then their sum."""
    price, calculator = offer(draw, PRICE if draw.chance(0.7) else _LOOKUP), offer(draw, CALCULATOR)
    first, second = draw.fill({}, "{item1}", "{item2}")
    question = draw.one((
        f"How much do a {first} and a {second} cost together?",
         f"What do I pay for a {first} and a {second} together?",
          f"What is the total price of the {first} and the {second}?",
        f"I buy a {first} and a {second}. What is the total?", f"Add the prices of {first} and {second}.",
         f"How much are a {first} and a {second} in total?",
    ))  # fmt: skip
    one, two = draw.price(), draw.price()
    messages = [user(chatty(draw, question, tools=True))]
    name = price.param_names[0]
    messages += [
        calling((price.name, {name: first}), (price.name, {name: second})),
        result(one, price.name),
        result(two, price.name),
    ]
    _step(messages, calculator, [f"{one} + {two}"], total := _number(float(one) + float(two)))
    messages.append(assistant(f"Together the {first} and the {second} cost {total}."))
    return messages, [price, calculator]


def _measure(draw: Draw) -> Chain:
    """A measured value from the file, then its conversion."""
    lookup, convert = offer(draw, _LOOKUP), offer(draw, CONVERT)
    item, amount, unit, target = draw.fill({}, "{item}", "{amount}", "{unit1}", "{unit2}")
    verb, asks = draw.one((
        ("weighs", "How much does the {i} weigh in {t}?"),
         ("weighs", "What does the {i} weigh in {t}?"),
          ("measures", "How long is the {i} in {t}?"),
        ("holds", "How much does the {i} hold in {t}?"),
         ("measures", "What does the {i} measure in {t}?"),
          ("measures", "What is the size of the {i} in {t}?"),
        ("measures", "How tall is the {i} in {t}?"),
         ("measures", "Give me the length of the {i} in {t}."),
          ("weighs", "I need the weight of the {i} in {t}."),
    ))  # fmt: skip
    messages = [user(chatty(draw, asks.replace("{i}", item).replace("{t}", target), tools=True))]
    said = draw.one(
        (f"{amount} {unit}", f"{amount} {unit}", f"{item}: {amount} {unit}", f"The {item} {verb} {amount} {unit}.")
    )
    _step(messages, lookup, [item], said)
    value = draw.amount()
    _step(messages, convert, [json.loads(amount), unit, target], value)
    messages.append(assistant(f"The {item} {verb} {value} {target}."))
    return messages, [lookup, convert]


def _days_until(draw: Draw) -> Chain:
    """The date of an event from the file, then the days to or from it."""
    lookup, days = offer(draw, _LOOKUP), offer(draw, DAYS_BETWEEN)
    event, day, today, count = draw.fill({}, "{item}", "{day1}", "{day2}", "{integer}")
    question = draw.one((
        f"How many days are there from {today} to the {event}?",
         f"Today is {today}. How many days until the {event}?", f"How many days lie between {today} and the {event}?",
        f"How long is it from {today} until the {event}?", f"Count the days from {today} to the {event}.",
    ))  # fmt: skip
    messages = [user(chatty(draw, question, tools=True))]
    _step(messages, lookup, [event], draw.one((day, day, f"{event}: {day}", f"The {event} is on {day}.")))
    _step(messages, days, [today, day], count.lstrip("-"))
    messages.append(assistant(f"There are {count.lstrip('-')} days from {today} to the {event}."))
    return messages, [lookup, days]


def _days_to_units(draw: Draw) -> Chain:
    """The days between two dates, then the same in hours, weeks or minutes."""
    days, calculator = offer(draw, DAYS_BETWEEN), offer(draw, CALCULATOR)
    start, end, count = draw.fill({}, "{day1}", "{day2}", "{count}")
    unit, sum_ = draw.one((("hours", "{} * 24"), ("weeks", "{} / 7"), ("minutes", "{} * 1440")))
    question = draw.one(
        (
            f"How many {unit} are there between {start} and {end}?",
            f"How many {unit} from {start} to {end}?",
            f"Count the {unit} between {start} and {end}.",
        )
    )
    messages = [user(chatty(draw, question, tools=True))]
    _step(messages, days, [start, end], count)
    total = {"hours": int(count) * 24, "weeks": round(int(count) / 7, 2), "minutes": int(count) * 1440}[unit]
    _step(messages, calculator, [sum_.format(count)], str(total))
    messages.append(assistant(f"There are {total} {unit} between {start} and {end}."))
    return messages, [days, calculator]


def _weather_at(draw: Draw) -> Chain:
    """The city of a person or thing, then the weather there."""
    who, city, weather = draw.fill({}, "{name}", "{city}", "{weather}")
    kind = ToolKind(
        ("find_city", "city_of", "where_is", "get_home", "lookup_person", "find_person", "lookup"),
         ("Find the city of a person.", "Where a person lives.", "Look up a person."),
        (_P(("name", "person", "who"), "string", "{name}"),), ("Where does {name} live?",))  # fmt: skip
    find, forecast = offer(draw, kind), offer(draw, WEATHER)
    question = draw.one((f"What is the weather where {who} lives?", f"How is the weather at the home of {who}?",
     f"Is it sunny in the city of {who}?", f"What's the weather like in {who}'s city?",
                         f"Tell me the weather in the town where {who} lives."))  # fmt: skip
    messages = [user(chatty(draw, question, tools=True))]
    _step(messages, find, [who], draw.one((city, city, f"{who} lives in {city}.")))
    _step(messages, forecast, [city], weather)
    messages.append(assistant(f"The weather in {city} is {weather}."))
    return messages, [find, forecast]


_DETAILS: Final = (
    "email",
    "phone",
    "address",
    "status",
    "total",
    "balance",
    "owner",
    "city",
    "age",
    "budget",
    "deadline",
)


def _id_then(draw: Draw) -> Chain:
    """An id found by name, then a record found by the id."""
    thing, detail = (
        draw.one(("customer", "user", "order", "project", "account", "member", "device", draw.noun())),
        draw.noun() if draw.rather(0.4, 1.0) else draw.one(_DETAILS),
    )
    who, code, value = draw.fill(
        {},
        draw.one(("{name}", "{company}", "{title}")),
        "{code}",
        draw.one(("{word}", "{number}", "{phrase}", "{day}", "{price}", "{city}")),
    )
    by = draw.one(("name", "title", "query"))
    find = offer(
        draw,
        ToolKind(
            (f"find_{thing}", f"get_{thing}_id", f"lookup_{thing}", f"search_{thing}"),
            (f"Find the id of a {thing}.", f"Get the {thing} id by {by}."),
            (_P((by,), "string", "{name}"),),
            ("-",),
        ),
    )
    key = draw.one((f"{thing}_id", "id"))
    get = offer(
        draw,
        ToolKind(
            (f"get_{detail}", f"fetch_{detail}", f"read_{detail}", f"{detail}_of_{thing}"),
            (f"Get the {detail} of a {thing} by its id.", f"The {detail} for a {thing} id."),
            (_P((key,), "string", "{code}"),),
            ("-",),
        ),
    )
    question = draw.one(
        (
            f"What is the {detail} of the {thing} {who}?",
            f"Find the {detail} of {thing} {who}.",
            f"Get the {detail} for the {thing} {who}",
            f"I need the {detail} of the {thing} named {who}.",
        )
    )
    messages = [user(chatty(draw, question, tools=True))]
    _step(
        messages, find, [who], draw.one((code, code, json.dumps({"id": code}), f"{key}: {code}", f"The id is {code}."))
    )
    _step(messages, get, [code], value)
    messages.append(assistant(f"The {detail} of {who} is {value}."))
    return messages, [find, get]


def _of_of(draw: Draw) -> Chain:
    """``the A of the B of X``: B of X first, then A of that, in two or three steps with invented tools."""
    if draw.rather(0.6, 0.0):
        return _cost_of_many(draw)
    depth = 3 if draw.rather(0.1, 0.25) else 2
    nouns = [draw.fill({}, slot)[0] for slot in ("{noun1}", "{noun2}", "{noun3}")][:depth]
    if len(set(nouns)) < depth:
        return _cost_of_many(draw)
    verb, known = (
        draw.one(("get", "find", "fetch", "lookup", "read")),
        draw.fill({}, draw.one(("{name}", "{city}", "{code}", "{company}", "{word}")))[0],
    )
    messages: list[Message] = []
    offers, value = [], known
    chain = known
    for noun in nouns:
        key = draw.one(("of", "name", "key", "input", "item", "value"))
        kind = ToolKind(
            (f"{verb}_{noun}", f"{verb}_the_{noun}", f"{noun}_of", f"{noun}_finder"),
            (f"Get the {noun} of something.", f"Find the {noun}.", f"The {noun} for a {key}."),
            (_P((key,), "string", "{word}"),),
            ("-",),
        )
        offers.append(offer(draw, kind))
        following = draw.fill({}, draw.one(("{word}", "{name}", "{city}", "{code}", "{integer}", "{title}")))[0]
        _step(messages, offers[-1], [value], following)
        value, chain = following, f"the {noun} of {chain}"
    question = draw.one(
        (f"What is {chain}?", f"Find {chain}.", f"Tell me {chain}.", f"I need {chain}", f"Get {chain}, please.")
    )
    return [
        user(chatty(draw, question, tools=True)),
        *messages,
        assistant(f"{chain[0].upper()}{chain[1:]} is {value}."),
    ], offers


def _cost_in_currency(draw: Draw) -> Chain:
    """Price, quantity, then the sum in another currency: three steps."""
    price, calculator = offer(draw, PRICE), offer(draw, CALCULATOR)
    exchange = offer(draw, next(kind for kind in KINDS if kind.names[0] == "convert_currency"))
    count, items, cost = draw.count(), draw.items(), draw.price()
    source, target = draw.fill({}, "{currency1}", "{currency2}")
    question = draw.one(
        (
            f"How much do {count} {items} cost in {target}?",
            f"What do {count} {items} cost in {target}?",
            f"What is the price of {count} {items} in {target}?",
            f"Price of {count} {items} in {target}?",
        )
    )
    messages = [user(chatty(draw, question, tools=True))]
    _step(messages, price, [items], f"{cost} {source}")
    _step(messages, calculator, [f"{count} * {cost}"], total := _number(int(count) * float(cost)))
    _step(messages, exchange, [json.loads(total), source, target], final := draw.price())
    messages.append(assistant(f"{count} {items} cost {final} {target}."))
    return messages, [price, calculator, exchange]


def _send_found(draw: Draw) -> Chain:
    """Looks up a value and sends it to somebody."""
    find = offer(draw, draw.one((PRICE, WEATHER, _LOOKUP)))
    send = offer(draw, next(kind for kind in KINDS if kind.names[0] == "send_message"))
    slot = find.kind.params[0].slot
    what, who, value = draw.fill({}, slot, "{first}", draw.one(("{price}", "{weather}", "{phrase}", "{number}")))
    thing = {"{city}": f"the weather in {what}"}.get(
        slot, f"the price of {what}" if find.kind is PRICE else f"the entry {what}"
    )
    question = draw.one(
        (
            f"Send {thing} to {who}.",
            f"Tell {who} {thing}.",
            f"Find {thing} and send it to {who}.",
            f"Look up {thing} and message it to {who}",
        )
    )
    messages = [user(chatty(draw, question, tools=True))]
    _step(messages, find, [what], value)
    _step(messages, send, [who, value], draw.one(("sent", "ok", "done")))
    messages.append(assistant(f"I sent {value} to {who}."))
    return messages, [find, send]


def _one_step(draw: Draw) -> Chain:
    """A question for which one call is enough, although the tools could do more."""
    offered = offer(draw, draw.one((PRICE, PRICE, CALCULATOR, CONVERT, DAYS_BETWEEN, WEATHER, any_kind(draw))))
    known: dict[str, str] = {}
    question, call = ask_for(draw, offered, known)
    text, answer = returned(draw, offered, known)
    candidates = [offer(draw, kind) for kind in draw.some((CALCULATOR, CONVERT, DAYS_BETWEEN, _LOOKUP), 2)]
    others = [other for other in candidates if not clash(other, offered)]
    messages = [user(chatty(draw, question, tools=True)), calling(call), result(text, offered.name), assistant(answer)]
    return messages, [offered, *others]


_CHAINS: Final[tuple[Callable[[Draw], Chain], ...]] = (
    _cost_of_many, _cost_of_many, _cost_of_many, _cost_of_two, _measure, _measure, _days_until, _days_to_units,
     _weather_at, _id_then, _id_then, _of_of, _of_of,
    _cost_in_currency, _send_found, _one_step, _one_step,
)  # fmt: skip


def make(draw: Draw) -> Case:
    """Returns a task of one to three steps with its tools; sometimes two tasks one after the other."""
    while True:
        messages, offers = draw.one(_CHAINS)(draw)
        if len({offered.name for offered in offers}) == len(offers):
            break
    if draw.chance(0.12):
        tools = toolset(draw, offers, draw.one((2, 3, 4)))
        again = _again(draw, offers)
        messages = again + messages if draw.chance(0.5) else messages + again
        return Case("agents", (*maybe_system(draw, 0.4), *messages), tools)
    return Case("agents", (*maybe_system(draw, 0.4), *messages), toolset(draw, offers, draw.one((2, 2, 3, 4, 5))))


def _again(draw: Draw, offers: list[Offer]) -> list[Message]:
    """Returns one more question that one of `offers` answers."""
    fitting = [offered for offered in offers if offered.kind.asks != ("-",)]
    if not fitting:
        return []
    return served(draw, draw.one(fitting))
