"""Fields of the schemas that the generator writes: their names, types, values and how sentences mention them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Field:
    """A field: possible names, JSON type, slot, and how a sentence about ``{s}`` mentions it (``{v}``, ``{n}`` its name)."""

    names: tuple[str, ...]
    type: str
    slot: str
    said: tuple[str, ...]
    enum: tuple[str, ...] = ()


NAME: Final = Field(("name", "full_name", "person", "customer", "title"), "string", "{name}", ())
FIELDS: Final = (
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
SAID_OF_ANY: Final = (
    "{s} has a {n} of {v}.", "The {n} of {s} is {v}.", "Its {n} is {v}.", "{n} is {v}.", "It has the {n} {v}.", "{n}: {v}.",
    "For the {n} we have {v}.", "{v} is the {n}.", "The {n} was {v}.", "{s} comes with the {n} {v}.", "{n} = {v}.",
)  # fmt: skip
SAID_OF_ARRAYS: Final = (
    "Its {n} are {v}.", "The {n} of {s} are {v}.", "{n}: {v}.", "{v} are the {n}.", "There are these {n}: {v}.",
    "{s} has the {n} {v}.", "Among the {n} are {v}.",
)  # fmt: skip
