"""Skill: fill a JSON Schema from what the user wrote.

The contract: the system message ends with ``Reply with JSON that matches this JSON Schema:`` and the schema on the
next line, written as pydantic's ``model_json_schema`` writes it. The answer's keys come in the order of the schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from mlx_integrations.demo.recipe.case import Case, Message, assistant, system, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.common import chatty, joined, maybe_system
from mlx_integrations.demo.recipe.toolbox import toolset

CONTRACT: Final = "Reply with JSON that matches this JSON Schema:\n"


@dataclass(frozen=True)
class Field:
    """A field: possible names, JSON type, slot, and how a sentence about ``{s}`` mentions it (``{v}``, ``{n}`` its name)."""

    names: tuple[str, ...]
    type: str
    slot: str
    said: tuple[str, ...]
    enum: tuple[str, ...] = ()


_NAME: Final = Field(("name", "full_name", "person", "customer", "title"), "string", "{name}", ())
_FIELDS: Final = (
    Field(("age", "years"), "integer", "{age}", ("{s} is {v} years old.", "{s} is {v}.",
     "{s} turned {v} this year.")),
    Field(("city", "town", "home", "location", "place"), "string", "{city}",
     ("{s} lives in {v}.", "{s} is from {v}.", "The city is {v}.", "{s} is in {v}.")),
    Field(("job", "occupation", "profession"), "string", "{job}",
     ("{s} works as a {v}.", "{s} is a {v} by profession.", "The job of {s} is {v}.")),
    Field(("email", "mail"), "string", "{email}", ("The email is {v}.", "You can write to {v}.",
     "{s} can be reached at {v}.")),
    Field(("phone", "telephone", "phone_number"), "string", "{phone}",
     ("The phone number is {v}.", "Call {v}.", "Phone: {v}.")),
    Field(("price", "cost", "total", "amount"), "number", "{amount}",
     ("The price is {v}.", "It costs {v} euros.", "The total is {v}.", "{s} paid {v}.")),
    Field(("quantity", "count", "number", "pieces"), "integer", "{count}",
     ("There are {v} pieces.", "{s} ordered {v} pieces.", "The quantity is {v}.", "{v} of them are needed.")),
    Field(("date", "day", "due_date", "birthday"), "string", "{day}",
     ("The date is {v}.", "It happens on {v}.", "It is due on {v}.")),
    Field(("time", "start"), "string", "{time}", ("The time is {v}.", "It starts at {v}.")),
    Field(("colour", "color"), "string", "{colour}", ("The colour is {v}.", "It is {v}.", "{s} wants it in {v}.")),
    Field(("company", "employer", "firm"), "string", "{company}",
     ("{s} is employed at {v}.", "The company is {v}.", "{s} joined {v}.")),
    Field(("year", "founded", "since"), "integer", "{year}", ("The year was {v}.", "It began in {v}.", "Since {v}.")),
    Field(("weight", "weight_kg"), "number", "{decimal}", ("It weighs {v} kg.", "The weight is {v}.")),
    Field(("order_id", "code", "id", "reference"), "string", "{code}",
     ("The code is {v}.", "The id is {v}.", "The reference is {v}.")),
    Field(("temperature", "degrees"), "number", "{number}", ("It is {v} degrees.", "The temperature is {v}.")),
    Field(("country",), "string", "{country}", ("{s} comes from {v}.", "The country is {v}.")),
    Field(("priority", "level", "urgency"), "string", "{level}", ("The priority is {v}.", "It has {v} priority."),
     ("low", "medium", "high")),
    Field(("weather", "condition", "sky"), "string", "{weather}", ("The weather is {v}.", "It is {v} outside."),
     ("sunny", "rainy", "cloudy", "windy", "foggy", "snowy", "stormy", "clear", "overcast", "misty")),
    Field(("active", "is_active", "enabled"), "boolean", "{yes}", ("{s} is active.", "{s} is not active.")),
    Field(("paid", "is_paid", "shipped"), "boolean", "{yes}", ("It is {n}.", "It is not {n}.")),
    Field(("married", "vegetarian", "retired", "member"), "boolean", "{yes}", ("{s} is {n}.", "{s} is not {n}.")),
    Field(("hobbies", "interests", "likes"), "array", "{hobby}",
     ("{s} likes {v}.", "The {n} of {s} are {v}.", "{s} enjoys {v}.")),
    Field(("items", "things", "articles", "products", "ingredients"), "array", "{item}",
     ("The {n} are {v}.", "The list has {v}.", "{s} needs {v}.")),
    Field(("tags", "keywords", "topics"), "array", "{topic}", ("The {n} are {v}.", "It is about {v}.")),
    Field(("friends", "people", "members", "guests"), "array", "{first}", ("The {n} are {v}.", "{v} come too.")),
    Field(("languages",), "array", "{language}", ("{s} speaks {v}.", "The {n} are {v}.")),
)  # fmt: skip
_TITLES: Final = (
    "Person",
    "Customer",
    "Order",
    "Invoice",
    "Contact",
    "Employee",
    "Event",
    "Product",
    "Record",
    "Entry",
    "Profile",
    "Report",
    "Ticket",
    "Booking",
    "Recipe",
    "Result",
    "Item",
    "User",
    "Extract",
)
_DESCRIBED: Final = (
    "The {n}.",
    "The {n} of the {t}.",
    "What the text says about the {n}.",
    "{n} as written",
    "the {n}",
)
_SAID_OF_ANY: Final = (
    "{s} has a {n} of {v}.", "The {n} of {s} is {v}.", "Its {n} is {v}.", "{n} is {v}.", "It has the {n} {v}.", "{n}: {v}.",
    "For the {n} we have {v}.", "{v} is the {n}.", "The {n} was {v}.", "{s} comes with the {n} {v}.", "{n} = {v}.",
)  # fmt: skip
_SAID_OF_ARRAYS: Final = (
    "Its {n} are {v}.", "The {n} of {s} are {v}.", "{n}: {v}.", "{v} are the {n}.", "There are these {n}: {v}.",
    "{s} has the {n} {v}.", "Among the {n} are {v}.",
)  # fmt: skip
_ORDERS: Final = (
    "", "", "", "Extract the data: ", "Extract the {t} from this text: ", "Fill in the {t}: ", "Text: ",
    "Here is the {t}: ", "Read this and extract the fields. ", "Make JSON of this: ", "Give me the {t} as JSON. ",
    "Parse this: ",
)  # fmt: skip


def _yes(draw: Draw) -> bool:
    return draw.chance(0.5)


@dataclass
class _Filled:
    """A field with its name, value, schema and the text that says it."""

    name: str
    value: Any
    schema: dict[str, Any]
    sentence: str
    written: str


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _value(draw: Draw, field: Field) -> tuple[Any, str]:
    if field.type == "boolean":
        value = _yes(draw)
        return value, draw.one(("yes", "true")) if value else draw.one(("no", "false"))
    if field.type == "array":
        values = list(dict.fromkeys(draw.fill({}, field.slot)[0] for _ in range(draw.int_in(1, 4))))
        return values, joined(values) if draw.chance(0.8) else ", ".join(values)
    text = draw.fill({}, field.slot)[0]
    if field.type in ("integer", "number"):
        return json.loads(text), text
    return text, text


def _other(draw: Draw) -> Field:
    """Returns a field with a name that exists nowhere else."""
    noun = draw.noun()
    name = draw.one((noun, f"{noun}_{draw.one(('name', 'type', 'text', 'note'))}", f"{draw.adjective()}_{noun}"))
    type_, slot = draw.one(
        (
            ("string", "{word}"),
            ("string", "{phrase}"),
            ("string", "{title}"),
            ("integer", "{integer}"),
            ("number", "{number}"),
            ("array", "{word}"),
            ("string", "{odd}"),
        )
    )
    return Field((name,), type_, slot, ("The {n} is {v}.", "{s} has the {n} {v}.", "As {n} take {v}.", "{n}: {v}."))


def _fill(draw: Draw, field: Field, subject: str, title: str, described: bool) -> _Filled:
    name = draw.one(field.names)
    value, written = _value(draw, field)
    schema: dict[str, Any] = {"title": _title(name), "type": field.type}
    words = name.replace("_", " ")
    if field.type == "array":
        schema = {"items": {"type": "string"}, **schema}
    if field.enum:
        options = draw.some(field.enum, 4)
        schema = {"enum": options if value in options else [*options, value], **schema}
    if described:
        schema = {"description": draw.one(_DESCRIBED).replace("{n}", words).replace("{t}", title.lower()), **schema}
    if field.type == "boolean":
        said = field.said[0 if value else 1]
    else:
        said = draw.one(field.said)
        if draw.chance(0.3):
            said = draw.one(_SAID_OF_ARRAYS if field.type == "array" else _SAID_OF_ANY)
    sentence = said.replace("{n}", words).replace("{s}", subject).replace("{v}", written)
    return _Filled(name, value, schema, sentence[0].upper() + sentence[1:], written)


def _optional(draw: Draw, filled: _Filled) -> _Filled:
    """Returns the field made optional; half the time the text does not mention it and the value is null."""
    schema = dict(filled.schema)
    inner = {key: schema.pop(key) for key in ("enum", "items", "type") if key in schema}
    optional = {"anyOf": [inner, {"type": "null"}], "default": None, **schema}
    if draw.chance(0.5):
        return _Filled(filled.name, None, optional, "", "")
    return _Filled(filled.name, filled.value, optional, filled.sentence, filled.written)


def _record(draw: Draw) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Returns a schema, the record that fills it and the text that states the record."""
    title, described = draw.one(_TITLES) if draw.chance(0.8) else draw.noun().capitalize(), draw.chance(0.3)
    subject = draw.name() if draw.chance(0.75) else draw.company()
    fields = draw.some(_FIELDS, draw.int_in(0, 4)) + [_other(draw) for _ in range(draw.one((0, 0, 0, 1, 1, 2)))]
    filled, taken = [], {"name", "address"}
    with_name = draw.chance(0.8) or not fields
    if with_name:
        name = draw.one(_NAME.names)
        schema: dict[str, Any] = {"title": _title(name), "type": "string"}
        filled.append(_Filled(name, subject, schema, "", subject))
        taken.add(name)
    for field in fields:
        one = _fill(draw, field, subject, title, described)
        if one.name not in taken:
            taken.add(one.name)
            filled.append(_optional(draw, one) if draw.chance(0.1) else one)
    if draw.chance(0.15):
        draw.rng.shuffle(filled)
    definitions: dict[str, Any] = {}
    required = [one.name for one in filled if "default" not in one.schema]
    if draw.chance(0.12):
        filled.append(_nested(draw, definitions, subject))
        required.append(filled[-1].name)
    text = _text(draw, filled, subject, with_name)
    schema = {
        "properties": {one.name: one.schema for one in filled},
        "required": required,
        "title": title,
        "type": "object",
    }
    if draw.chance(0.2):
        schema = {"description": f"{draw.one(('Data of a', 'A', 'Facts about a', 'One'))} {title.lower()}.", **schema}
    if definitions:
        schema = {"$defs": definitions, **schema}
    if draw.chance(0.15):
        schema["additionalProperties"] = False
    return schema, {one.name: one.value for one in filled}, text


def _nested(draw: Draw, definitions: dict[str, Any], subject: str) -> _Filled:
    """Returns a field that is an object of its own, defined in `definitions`."""
    street, number, city = draw.fill({}, "{noun}", "{count}", "{city}")
    street = f"{street.capitalize()} {draw.one(('Street', 'Road', 'Lane'))}"
    inner = {"street": (street, "string"), "number": (json.loads(number), "integer"), "city": (city, "string")}
    if draw.chance(0.4):
        inner.pop("number")
    definitions["Address"] = {
        "properties": {name: {"title": _title(name), "type": type_} for name, (_, type_) in inner.items()},
        "required": list(inner), "title": "Address", "type": "object",
    }  # fmt: skip
    written = f"{street} {number}, {city}" if "number" in inner else f"{street}, {city}"
    sentence = draw.one((f"The address is {written}.", f"{subject} has the address {written}.", f"Address: {written}."))
    return _Filled(
        "address", {name: value for name, (value, _) in inner.items()}, {"$ref": "#/$defs/Address"}, sentence, written
    )


def _text(draw: Draw, filled: list[_Filled], subject: str, with_name: bool) -> str:
    """Returns the text that states the record, as sentences or as a list."""
    said = [one for one in filled if one.value is not None]
    if draw.chance(0.3):
        draw.rng.shuffle(said)
    if draw.chance(0.3):
        separator = draw.one((", ", "\n", "; ", " | ", "\n- "))
        return separator.join(f"{one.name.replace('_', ' ')}: {one.written}" for one in said)
    if draw.chance(0.08):
        separator = draw.one((", ", ", ", "; ", "\n"))
        return separator.join(one.written for one in filled if one.value is not None)
    sentences = [one.sentence for one in said if one.sentence]
    if with_name and draw.chance(0.35):
        sentences = _fluent(draw, sentences, subject)
    text = " ".join(sentences)
    if with_name and subject not in text:
        name = next((one.name for one in filled if one.value == subject), "name").replace("_", " ")
        opening = draw.one(
            (
                f"The {name} is {subject}.",
                f"This is {subject}.",
                f"I met {subject}.",
                f"{subject} is here.",
                f"{subject}.",
                f"It is about {subject}.",
            )
        )
        text = f"{opening} {text}".strip()
    return text


def _fluent(draw: Draw, sentences: list[str], subject: str) -> list[str]:
    """Returns the sentences with pronouns for the subject, or neighbours joined by ``and``, or told by the subject."""
    roll = draw.rng.random()
    if roll < 0.25 and sentences and sentences[0].startswith(f"{subject} is "):
        told = [
            sentence.replace(f"{subject} is ", "I am ").replace(f"{subject} has ", "I have ") for sentence in sentences
        ]
        told = [
            sentence.replace(f"{subject} lives ", "I live ").replace(f"{subject} likes ", "I like ")
            for sentence in told
        ]
        return [draw.one((f"My name is {subject}.", f"I am {subject}.", f"Hi, I'm {subject}.")), *told]
    pronoun = draw.one(("He ", "She ", "They "))
    out: list[str] = []
    for sentence in sentences:
        starts = sentence.startswith(subject + " ")
        if out and starts and out[-1].startswith((subject + " ", pronoun)) and roll < 0.7:
            out[-1] = out[-1].removesuffix(".") + " and" + sentence.removeprefix(subject)
        else:
            out.append(pronoun + sentence.removeprefix(subject + " ") if out and starts else sentence)
    return out


def _joke(draw: Draw) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Returns a schema with free text: a question and an answer about a topic."""
    about = draw.fill({}, draw.one(("{animal}s", "{items}", "{topic}", "{job}s")))[0]
    keys = draw.one((("setup", "punchline"), ("setup", "punchline"), ("question", "answer"), ("opening", "ending")))
    texts = (f"Why did the {about} cross the road?", "To get to the other side!")
    properties: dict[str, Any] = {}
    for key, description in zip(keys, ("how the joke begins", "how the joke ends"), strict=True):
        properties[key] = {"title": _title(key), "type": "string"}
        if draw.chance(0.5):
            properties[key] = {"description": description, **properties[key]}
    if draw.chance(0.2):
        properties[keys[1]] = {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "default": None,
            "title": _title(keys[1]),
        }
    required = [key for key in keys if "default" not in properties[key]]
    schema = {
        "properties": properties,
        "required": required,
        "title": draw.one(("Joke", "JokeDict", "Riddle", "Fun")),
        "type": "object",
    }
    said = draw.one(
        (
            f"Tell me a joke about {about}.",
            f"A joke about {about}, please",
            f"Make a joke about {about}",
            f"Give me a joke about {about} as JSON.",
            f"I want a joke about {about}",
        )
    )
    if draw.chance(0.3):
        schema = {"description": "A joke for the user.", **schema}
    return schema, dict(zip(keys, texts, strict=True)), said


def _by_hand(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema as people write it: no titles on fields, the type first."""

    def field(inner: dict[str, Any]) -> dict[str, Any]:
        first: dict[str, Any] = {
            key: inner[key] for key in ("type", "enum", "items", "anyOf", "description", "$ref") if key in inner
        }
        return first or inner

    properties = {name: field(inner) for name, inner in schema["properties"].items()}
    head: dict[str, Any] = {key: schema[key] for key in ("title", "description", "type") if key in schema}
    tail: dict[str, Any] = {key: schema[key] for key in ("required", "additionalProperties", "$defs") if key in schema}
    return {**head, "properties": properties, **tail}


def make(draw: Draw) -> Case:
    """Returns a text, a schema and the JSON that fills it; sometimes a second text for the same schema."""
    joke = draw.chance(0.07)
    schema, record, text = _joke(draw) if joke else _record(draw)
    order = "" if joke else draw.one(_ORDERS).replace("{t}", str(schema["title"]).lower())
    if draw.chance(0.2):
        schema = _by_hand(schema)
    contract = CONTRACT + json.dumps(schema, ensure_ascii=False)
    before: list[Message] = maybe_system(draw, 0.4)
    head = [system(f"{before[0]['content']}\n\n{contract}" if before else contract)]
    tools = toolset(draw, [], draw.int_in(1, 2)) if draw.chance(0.04) else ()
    said = chatty(draw, order + text) if joke or draw.chance(0.3) else order + text
    return Case("schemas", (*head, user(said), assistant(json.dumps(record, ensure_ascii=False))), tools)
