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
from mlx_integrations.demo.recipe.schema_fields import FIELDS, NAME, SAID_OF_ANY, SAID_OF_ARRAYS, Field
from mlx_integrations.demo.recipe.skills.common import chatty, joined, maybe_system
from mlx_integrations.demo.recipe.toolbox import toolset

CONTRACT: Final = "Reply with JSON that matches this JSON Schema:\n"


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
_ORDERS: Final = (
    "", "", "", "Extract the data: ", "Extract the {t} from this text: ", "Fill in the {t}: ", "Text: ",
    "Here is the {t}: ", "Read this and extract the fields. ", "Make JSON of this: ", "Give me the {t} as JSON. ",
    "Parse this: ",
)  # fmt: skip


@dataclass
class _Filled:
    """A field with its value and the text that says it."""

    name: str
    value: Any
    sentence: str
    written: str


@dataclass(frozen=True)
class _Spec:
    """A field of one schema: what it is, its name and its schema there."""

    field: Field
    name: str
    schema: dict[str, Any]
    options: tuple[str, ...] = ()

    @property
    def is_optional(self) -> bool:
        """Whether the field may be null."""
        return "default" in self.schema


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _value(draw: Draw, spec: _Spec) -> tuple[Any, str]:
    field = spec.field
    if field.type == "boolean":
        value = draw.chance(0.5)
        return value, draw.one(("yes", "true")) if value else draw.one(("no", "false"))
    if field.type == "array":
        values = list(dict.fromkeys(draw.fill({}, field.slot)[0] for _ in range(draw.int_in(1, 4))))
        return values, joined(values) if draw.chance(0.8) else ", ".join(values)
    text = draw.one(spec.options) if spec.options else draw.fill({}, field.slot)[0]
    if field.type in ("integer", "number"):
        return json.loads(text), text
    return text, text


def _other(draw: Draw) -> Field:
    """Returns a field with a name that exists nowhere else."""
    noun = draw.noun()
    name = draw.one((noun, f"{noun}_{draw.one(('name', 'type', 'text', 'note'))}", f"{draw.adjective()}_{noun}"))
    kinds = (
        ("string", "{word}"),
        ("string", "{phrase}"),
        ("string", "{title}"),
        ("string", "{odd}" if draw.unusual else "{colour}"),
    )
    numbers = (("integer", "{integer}"), ("number", "{number}"), ("array", "{word}"))
    type_, slot = draw.one(kinds + numbers)
    return Field((name,), type_, slot, ("The {n} is {v}.", "{s} has the {n} {v}.", "As {n} take {v}.", "{n}: {v}."))


def _spec(draw: Draw, field: Field, title: str, described: bool) -> _Spec:
    name = draw.one(field.names)
    schema: dict[str, Any] = {"title": _title(name), "type": field.type}
    options: tuple[str, ...] = ()
    if field.type == "array":
        schema = {"items": {"type": "string"}, **schema}
    if field.enum:
        options = tuple(draw.some(field.enum, 4))
        schema = {"enum": list(options), **schema}
    if described:
        text = draw.one(_DESCRIBED).replace("{n}", name.replace("_", " ")).replace("{t}", title.lower())
        schema = {"description": text, **schema}
    if field.names is not NAME.names and draw.rather(0.1, 0.22):
        inner = {key: schema.pop(key) for key in ("enum", "items", "type") if key in schema}
        schema = {"anyOf": [inner, {"type": "null"}], "default": None, **schema}
    return _Spec(field, name, schema, options)


def _fill(draw: Draw, spec: _Spec, subject: str) -> _Filled:
    """Returns the field with a value; an optional one is null half the time, and the text does not mention it."""
    if spec.is_optional and draw.chance(0.5):
        return _Filled(spec.name, None, "", "")
    if spec.field.names is NAME.names:
        return _Filled(spec.name, subject, "", subject)
    value, written = _value(draw, spec)
    if spec.field.type == "boolean":
        said = spec.field.said[0 if value else 1]
    elif draw.rather(0.15, 0.3):
        said = draw.one(SAID_OF_ARRAYS if spec.field.type == "array" else SAID_OF_ANY)
    else:
        said = draw.one(spec.field.said)
    sentence = (
        said.replace("{n}", spec.name.removeprefix("is_").replace("_", " "))
        .replace("{s}", subject)
        .replace("{v}", written)
    )
    if not said.startswith("{v}"):
        sentence = sentence[0].upper() + sentence[1:]
    return _Filled(spec.name, value, sentence, written)


@dataclass(frozen=True)
class _Form:
    """A schema for which any number of records can be made."""

    schema: dict[str, Any]
    specs: tuple[_Spec, ...]
    address: tuple[str, ...]

    def record(self, draw: Draw) -> tuple[dict[str, Any], str]:
        """Returns a record and the text that states it."""
        subject = draw.name() if draw.chance(0.75) else draw.company()
        filled = [_fill(draw, spec, subject) for spec in self.specs]
        if self.address:
            filled.append(_address(draw, self.address, subject))
        with_name = any(spec.field.names is NAME.names for spec in self.specs)
        return {one.name: one.value for one in filled}, _text(draw, filled, subject, with_name)


def _form(draw: Draw) -> _Form:
    """Returns a schema with one to seven fields, sometimes with an object inside."""
    title, described = draw.one(_TITLES) if draw.chance(0.8) else draw.noun().capitalize(), draw.chance(0.3)
    fields = draw.some(FIELDS, draw.int_in(0, 4)) + [
        _other(draw) for _ in range(draw.one((0, 0, 0, 1, 1, 2) if draw.unusual else (0, 0, 0, 0, 0, 1)))
    ]
    if draw.chance(0.8) or not fields:
        fields.insert(0, NAME)
    specs: dict[str, _Spec] = {}
    for field in fields:
        spec = _spec(draw, field, title, described and field is not NAME)
        if spec.name not in specs and spec.name != "address":
            specs[spec.name] = spec
    ordered = list(specs.values())
    if draw.chance(0.15):
        draw.rng.shuffle(ordered)
    properties = {spec.name: spec.schema for spec in ordered}
    required = [spec.name for spec in ordered if not spec.is_optional]
    address = draw.one((("street", "number", "city"), ("street", "city"))) if draw.chance(0.12) else ()
    if address:
        properties["address"] = {"$ref": "#/$defs/Address"}
        required.append("address")
    schema: dict[str, Any] = {"properties": properties, "required": required, "title": title, "type": "object"}
    if draw.chance(0.2):
        schema = {"description": f"{draw.one(('Data of a', 'A', 'Facts about a', 'One'))} {title.lower()}.", **schema}
    if address:
        schema = {"$defs": {"Address": _address_schema(address)}, **schema}
    if draw.chance(0.15):
        schema["additionalProperties"] = False
    return _Form(_by_hand(schema) if draw.chance(0.2) else schema, tuple(ordered), address)


def _address_schema(keys: tuple[str, ...]) -> dict[str, Any]:
    types = {key: "integer" if key == "number" else "string" for key in keys}
    properties = {key: {"title": _title(key), "type": type_} for key, type_ in types.items()}
    return {"properties": properties, "required": list(keys), "title": "Address", "type": "object"}


def _address(draw: Draw, keys: tuple[str, ...], subject: str) -> _Filled:
    """Returns a field that is an object of its own."""
    noun, number, city = draw.fill({}, "{noun}", "{count}", "{city}")
    street = f"{noun.capitalize()} {draw.one(('Street', 'Road', 'Lane'))}"
    value = {"street": street, "number": json.loads(number), "city": city}
    written = f"{street} {number}, {city}" if "number" in keys else f"{street}, {city}"
    sentence = draw.one((f"The address is {written}.", f"{subject} has the address {written}.", f"Address: {written}."))
    return _Filled("address", {key: value[key] for key in keys}, sentence, written)


def _text(draw: Draw, filled: list[_Filled], subject: str, with_name: bool) -> str:
    """Returns the text that states the record, as sentences or as a list."""
    said = [one for one in filled if one.value is not None]
    if draw.rather(0.2, 0.3):
        draw.rng.shuffle(said)
    if draw.chance(0.3):
        # Between fields, a comma is no separator where a list holds commas of its own.
        has_lists = any(isinstance(one.value, list) for one in said)
        separator = draw.one(("; ", "\n", " | ", "\n- ") if has_lists else (", ", "\n", "; ", " | ", "\n- "))
        return separator.join(f"{one.name.replace('_', ' ')}: {one.written}" for one in said)
    if draw.rather(0.0, 0.04):
        separator = draw.one((", ", ", ", "; ", "\n"))
        return separator.join(one.written for one in filled if one.value is not None)
    sentences = [one.sentence for one in said if one.sentence]
    if with_name and draw.rather(0.2, 0.35):
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
    """Returns a schema, a text and the JSON that fills it; often more texts for the same schema after it."""
    form = None if draw.chance(0.06) else _form(draw)
    schema, record, text = _joke(draw) if form is None else (form.schema, *form.record(draw))
    contract = CONTRACT + json.dumps(schema, ensure_ascii=False)
    before: list[Message] = maybe_system(draw, 0.4)
    messages = [system(f"{before[0]['content']}\n\n{contract}" if before else contract)]
    tools = toolset(draw, [], draw.int_in(1, 2)) if draw.chance(0.04) else ()
    order = draw.one(_ORDERS).replace("{t}", str(schema["title"]).lower())
    for _ in range(1 if form is None else draw.questions()):
        said = chatty(draw, text) if form is None else chatty(draw, order + text) if draw.chance(0.3) else order + text
        messages += [user(said), assistant(json.dumps(record, ensure_ascii=False))]
        if form is not None:
            record, text = form.record(draw)
    return Case("schemas", tuple(messages), tools)
