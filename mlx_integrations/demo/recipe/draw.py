"""Draws names, numbers, dates, unicode words and filled templates for one split.

A `Draw` is the only source of chance in the generator: the same seed and split give the same text. Templates name
what they need: ``"What is the weather in {city}?"`` draws a city, ``{city2}`` draws another one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import TypeVar

from mlx_integrations.demo.recipe import words
from mlx_integrations.demo.recipe.words import Split, in_split

T = TypeVar("T")

_ONSETS = ("b c d f g h j k l m n p r s t v w z " * 3 + "br bl ch cl dr fl gr kl kr pl pr sh sk sl sp st th tr").split()
_NUCLEI = ("a e i o u " * 4 + "ai ea ie oo ou y").split()
_CODAS = ["", "", "", "", "", "l", "m", "n", "r", "s", "t", "n", "r", "x", "k", "nd", "rt", "st"]
_ALL_WORDS = tuple(
    word
    for listed in (words.NOUNS, words.ADJECTIVES, words.COLOURS, words.FOODS, words.ANIMALS, words.JOBS, words.HOBBIES,
                   words.TOPICS, words.COUNTRIES, words.CITIES, words.FIRST_NAMES)
    for word in listed
    if word.isascii() and word.isalpha()
)  # fmt: skip
_SLOT = re.compile(r"\{([a-z_]+?)(\d*)\}")


@lru_cache(maxsize=64)
def _pool(listed: tuple[str, ...], split: Split) -> tuple[str, ...]:
    return tuple(word for word in listed if in_split(word, split))


class Draw:
    """Draws everything that varies in a training text.

    Args:
        seed: Any integer or text; equal seeds give equal draws.
        split: Which words may appear.
        most_questions: How many questions a conversation asks at most.
        unusual: Whether words are often spliced or in scripts that English text does not have, and texts are twisted.
    """

    def __init__(self, seed: int | str, split: Split, most_questions: int = 5, *, unusual: bool = True) -> None:
        self._most_questions = most_questions
        self.unusual = unusual
        self.rng = random.Random(f"{split}:{seed}")
        self.split: Split = split
        self._kinds: dict[str, Callable[[], str]] = {
            name: method for name in _KINDS if callable(method := getattr(self, name))
        }

    # chance
    def chance(self, probability: float) -> bool:
        """Returns True with the given probability, 0 to 1."""
        return self.rng.random() < probability

    def rather(self, plain: float, unusual: float) -> bool:
        """Returns True with one probability in ordinary text and with another in unusual text, each 0 to 1."""
        return self.chance(unusual if self.unusual else plain)

    def one(self, options: Sequence[T]) -> T:
        """Returns one of `options`."""
        return options[int(self.rng.random() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """Returns `count` different members of `options` (fewer when there are not so many)."""
        return self.rng.sample(list(options), min(count, len(options)))

    def questions(self) -> int:
        """Returns how many questions a conversation asks: one half the time, else up to the most allowed."""
        return 1 if self.chance(0.5) else self.int_in(min(2, self._most_questions), self._most_questions)

    def int_in(self, low: int, high: int) -> int:
        """Returns an integer from `low` to `high`, both included."""
        return self.rng.randint(low, high)

    def listed(self, pool: Sequence[str]) -> str:
        """Returns a word of `pool` that belongs to this split."""
        return self.one(_pool(tuple(pool), self.split))

    # invented words
    def invented(self) -> str:
        """Returns an invented lower-case word of this split."""
        while True:
            if self.unusual and self.chance(0.45):
                spliced = self._spliced()
                if len(spliced) > 2 and in_split(spliced, self.split):
                    return spliced
                continue
            syllables = 2 + (self.rng.random() < 0.25)
            word = "".join(self.one(_ONSETS) + self.one(_NUCLEI) + self.one(_CODAS) for _ in range(syllables))
            if len(word) > 2 and in_split(word, self.split):
                return word

    def _spliced(self) -> str:
        """Returns pieces of listed words put together, so that copying meets every piece of word that the tokenizer has."""
        parts = []
        for _ in range(self.int_in(1, 3)):
            word = self.one(_pool(_ALL_WORDS, "train")).lower()
            start = self.int_in(0, max(0, len(word) - 3))
            parts.append(word[start : start + self.int_in(2, 5)])
        return "".join(parts)

    def letters(self) -> str:
        """Returns a word of random letters of one or several scripts, which can only be copied, not guessed."""
        while True:
            script = self.one(words.SCRIPTS if self.unusual else words.NAME_SCRIPTS)
            is_any = self.unusual and self.chance(0.4)
            letters = range(*self.one(words.RANGES)) if is_any else [ord(letter) for letter in script]
            length = self.int_in(1, 3) if letters[0] > 0xFFFF or script is words.EMOJI else self.int_in(2, 5)
            word = "".join(chr(self.one(letters)) for _ in range(length))
            if self.chance(0.3) and script in (words.CYRILLIC, words.GREEK):
                word = word.capitalize()
            if in_split(word, self.split):
                return word

    def accented(self) -> str:
        """Returns an invented word with one accented letter."""
        while True:
            word = self.invented()
            at = self.int_in(1, len(word) - 1)
            word = word[:at] + self.one(words.ACCENTS) + word[at + self.int_in(0, 1) :]
            if in_split(word, self.split):
                return word

    def odd(self) -> str:
        """Returns a word in an unusual script or with accents."""
        return self.accented() if self.chance(0.45 if self.unusual else 0.8) else self.letters()

    # names and things
    def first(self) -> str:
        """Returns a first name, listed or invented."""
        roll = self.rng.random()
        if roll < (0.5 if self.unusual else 0.92):
            return self.listed(words.FIRST_NAMES)
        return self.invented().capitalize() if roll < (0.88 if self.unusual else 0.99) else self.odd().capitalize()

    def name(self) -> str:
        """Returns a person's name: first name, often with a surname."""
        first = self.first()
        if not self.rather(0.3, 0.5):
            return first
        return f"{first} {self.accented().capitalize() if self.rather(0.03, 0.12) else self.invented().capitalize()}"

    def city(self) -> str:
        """Returns a place name, sometimes with its region or in another script."""
        roll = self.rng.random()
        if roll < (0.55 if self.unusual else 0.95):
            city = self.listed(words.CITIES)
        elif roll < (0.8 if self.unusual else 0.99):
            city = self.invented().capitalize()
            if self.chance(0.2):
                city = f"{self.one(('New', 'San', 'Saint', 'Port', 'Lake', 'North', 'Bad'))} {city}"
        else:
            city = self.odd().capitalize() if self.chance(0.9) else self.odd()
        return f"{city}, {self.one(words.REGIONS)}" if self.rather(0.03, 0.12) else city

    def noun(self) -> str:
        """Returns a common noun, listed or invented."""
        return self.listed(words.NOUNS) if self.rather(0.96, 0.5) else self.invented()

    def adjective(self) -> str:
        """Returns an adjective of this split."""
        return self.listed(words.ADJECTIVES)

    def item(self) -> str:
        """Returns an article that one can buy: a noun, sometimes with an adjective."""
        noun = self.noun() if self.chance(0.93 if self.unusual else 0.99) else self.odd()
        return noun if self.chance(0.65) else f"{self.adjective()} {noun}"

    def items(self) -> str:
        """Returns an article in the plural."""
        item = self.item()
        return item + ("es" if item.endswith(("s", "x", "sh", "ch")) else "s") if item.isascii() else item

    def colour(self) -> str:
        """Returns a colour word."""
        return self.listed(words.COLOURS) if self.rather(0.97, 0.8) else self.invented()

    def food(self) -> str:
        """Returns a dish."""
        return self.listed(words.FOODS) if self.rather(0.97, 0.7) else self.invented()

    def animal(self) -> str:
        """Returns an animal."""
        return self.listed(words.ANIMALS) if self.rather(0.97, 0.8) else self.invented()

    def job(self) -> str:
        """Returns an occupation."""
        return self.listed(words.JOBS) if self.rather(0.97, 0.8) else self.invented()

    def hobby(self) -> str:
        """Returns a pastime."""
        return self.listed(words.HOBBIES) if self.rather(0.97, 0.8) else self.invented()

    def topic(self) -> str:
        """Returns a field of knowledge."""
        return self.listed(words.TOPICS) if self.rather(0.97, 0.8) else self.invented()

    def country(self) -> str:
        """Returns a country."""
        return self.listed(words.COUNTRIES) if self.rather(0.97, 0.8) else self.invented().capitalize()

    def weather(self) -> str:
        """Returns a weather word; a closed list, the same in both splits."""
        return self.one(words.WEATHERS)

    def word(self) -> str:
        """Returns one word of any kind."""
        kinds = (self.noun, self.invented, self.odd, self.colour, self.animal)
        return self.one(kinds if self.unusual else (self.noun, self.noun, self.adjective, self.colour, self.animal))()

    def phrase(self) -> str:
        """Returns one to four words to be copied exactly."""
        return " ".join(dict.fromkeys(self.word() for _ in range(self.int_in(1, 4))))

    def title(self) -> str:
        """Returns a title such as one of a book, song or meeting."""
        kinds = (self.noun, self.adjective, self.invented if self.unusual else self.noun)
        text = " ".join(dict.fromkeys(self.one(kinds)() for _ in range(self.int_in(1, 3))))
        return text.capitalize() if self.chance(0.5) else text.title()

    def company(self) -> str:
        """Returns a company name."""
        core = self.invented().capitalize() if self.chance(0.8 if self.unusual else 0.97) else self.odd().capitalize()
        return core + self.one((" Ltd", " Foods", " Labs", " Group", " Books", " GmbH", " Motors", "", ""))

    # numbers, codes, dates
    def count(self) -> str:
        """Returns a small whole number from 2 to 99."""
        return str(self.int_in(2, 20) if self.chance(0.7) else self.int_in(21, 99))

    def integer(self) -> str:
        """Returns a whole number, sometimes negative."""
        number = self.int_in(0, 10 ** self.int_in(1, 5))
        return str(-number if self.chance(0.08) else number)

    def decimal(self) -> str:
        """Returns a number with one to three decimals, as Python prints a float."""
        number = self.int_in(0, 10 ** self.int_in(1, 4)) + self.int_in(1, 999) / 1000
        return str(round(-number if self.chance(0.08) else number, self.int_in(1, 3)))

    def number(self) -> str:
        """Returns a whole or decimal number."""
        return self.integer() if self.chance(0.55) else self.decimal()

    def amount(self) -> str:
        """Returns a positive number."""
        return self.number().lstrip("-")

    def price(self) -> str:
        """Returns a price with two decimals, without currency."""
        return f"{self.int_in(0, 10 ** self.int_in(1, 3))}.{self.int_in(0, 99):02d}"

    def year(self) -> str:
        """Returns a year."""
        return str(self.int_in(1500, 2030))

    def age(self) -> str:
        """Returns an age in years."""
        return str(self.int_in(3, 99))

    def day(self) -> str:
        """Returns a date in ISO form."""
        return (date(2019, 1, 1) + timedelta(days=self.int_in(0, 4000))).isoformat()

    def weekday(self) -> str:
        """Returns a day of the week."""
        return self.one(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"))

    def month(self) -> str:
        """Returns a month."""
        return self.one(words.MONTHS)

    def nth(self) -> str:
        """Returns an ordinal number as a word."""
        return self.one(("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "ninth", "top", "lower"))

    def few(self) -> str:
        """Returns a small number, as a word or in digits."""
        return (
            self.one(("two", "three", "four", "five", "six", "seven", "eight", "ten", "twelve"))
            if self.chance(0.5)
            else self.count()
        )

    def spans(self) -> str:
        """Returns a span of time in the plural."""
        return self.one(("minutes", "hours", "days", "weeks", "months", "years"))

    def time(self) -> str:
        """Returns a time of day."""
        if self.chance(0.7):
            return f"{self.int_in(0, 23)}:{self.int_in(0, 59):02d}"
        return f"{self.int_in(1, 12)} {self.one(('am', 'pm', 'a.m', 'p.m')).replace('.m', 'm')}"

    def code(self) -> str:
        """Returns a code such as C-1042 or 7f3a9."""
        if self.chance(0.6):
            return f"{self.one('ABCDEFGHKLMNPRSTUVWXYZ')}{self.one(('-', '', 'X-'))}{self.int_in(10, 99999)}"
        return "".join(self.rng.choices("0123456789abcdef", k=self.int_in(4, 8)))

    def phone(self) -> str:
        """Returns a telephone number."""
        return f"{self.one(('+', '0', '555-'))}{self.int_in(1000, 99999999)}"

    def email(self) -> str:
        """Returns a mail address."""
        return f"{self.invented()}{self.one(('', '.' + self.invented(), str(self.int_in(1, 99))))}@{self.one(words.MAIL_HOSTS)}"

    def unit(self) -> str:
        """Returns a unit of measure; a closed list, with some invented ones."""
        return self.one(words.UNITS) if self.rather(0.98, 0.9) else self.invented()

    def currency(self) -> str:
        """Returns a currency."""
        return self.one(words.CURRENCIES)

    def language(self) -> str:
        """Returns a language."""
        return self.one(words.LANGUAGES) if self.rather(0.97, 0.8) else self.invented().capitalize()

    def level(self) -> str:
        """Returns low, medium or high."""
        return self.one(("low", "medium", "high"))

    def style(self) -> str:
        """Returns a manner of speaking."""
        return self.one(
            (self.noun, self.adjective, self.job, self.invented if self.unusual else self.adjective, self.noun)
        )()

    def customer(self) -> str:
        """Returns the name of a person or company, often in another script."""
        roll = self.rng.random()
        if roll < (0.5 if self.unusual else 0.35):
            return self.letters() + (self.letters() if self.chance(0.4) else "")
        return self.company() if roll < 0.6 else self.name()

    def expression(self) -> str:
        """Returns an arithmetic expression."""

        def operand() -> str:
            return (
                str(self.int_in(0, 999)) if self.chance(0.7) else str(round(self.rng.random() * 100, self.int_in(1, 2)))
            )

        def operator() -> str:
            return self.one((" + ", " - ", " * ", " / ", "+", "-", "*", "/"))

        form = self.int_in(0, 6)
        if form <= 2:
            return operand() + operator() + operand()
        if form == 3:
            return operand() + operator() + operand() + operator() + operand()
        if form == 4:
            return f"{operand()}{operator()}({operand()}{operator()}{operand()})"
        if form == 5:
            return f"({operand()}{operator()}{operand()}){operator()}{operand()}"
        return f"{self.one(('sqrt', 'abs', 'round'))}({operand()})" if self.chance(0.4) else f"{operand()} ** 2"

    def fill(self, known: dict[str, str], *templates: str) -> tuple[str, ...]:
        """Fills the slots of `templates`, the same slot always with the same text.

        Args:
            known: Slots already fixed; what is drawn here is added to it.
            *templates: Texts with slots such as ``{city}`` or ``{city2}``.

        Returns:
            The filled texts, in order.
        """

        def value(match: re.Match[str]) -> str:
            slot = match.group(1) + match.group(2)
            if slot not in known:
                if match.group(1) not in self._kinds:
                    return match.group(0)
                drawn = self._kinds[match.group(1)]()
                while match.group(2) and drawn in known.values():
                    drawn = self._kinds[match.group(1)]()
                known[slot] = drawn
            return known[slot]

        return tuple(_SLOT.sub(value, template) for template in templates)


_KINDS = (
    "invented", "odd", "first", "name", "city", "noun", "adjective", "item", "items", "colour", "food", "animal",
    "job",
    "hobby", "topic", "country", "weather", "word", "phrase", "title", "company", "count", "integer", "decimal",
    "number", "amount", "price", "year", "age", "day", "weekday", "time", "code", "phone", "email", "expression",
    "unit",
    "currency", "language", "level", "style", "customer", "month", "nth", "few", "spans",
)  # fmt: skip
