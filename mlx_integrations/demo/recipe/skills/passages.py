"""Skill: answer from given passages with the sentence that answers, or say that the text does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mlx_integrations.demo.recipe import facts
from mlx_integrations.demo.recipe.case import Case, Message, assistant, system, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.common import chatty, maybe_system

NOT_IN_TEXT: Final = "The text does not say that."


@dataclass(frozen=True)
class Stated:
    """A sentence, a question that it answers, whom it is about and all questions that facts of its kind answer."""

    sentence: str
    question: str
    entity: str
    asked: frozenset[str]

    def is_like(self, other: Stated) -> bool:
        """Whether one question could be meant for both."""
        return self.entity == other.entity and not self.asked.isdisjoint(other.asked)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _entity(draw: Draw) -> tuple[str, tuple[facts.Fact, ...]]:
    """Returns something that a passage can be about, and the facts that fit it."""
    roll = draw.rng.random()
    if roll < 0.3:
        name = draw.one(
            ("the {noun}", "the {adjective} {noun}", "the {noun} of {city}", "the {noun} in {city}", "{odd} {noun}",
             "the {invented} {noun}", "our {noun}", "the {word} museum", "Café {first}")
        )  # fmt: skip
        return draw.fill({}, name)[0], facts.PLACE if draw.chance(0.6) else facts.THING
    if roll < 0.6:
        return draw.name() if draw.chance(0.85) else draw.fill(
            {}, draw.one(("Dr. {first}", "Captain {first}", "my {kin}", "Professor {name}"))
        )[0].replace("{kin}", "sister"), facts.PERSON
    if roll < 0.75:
        return draw.fill(
            {},
            draw.one(
                (
                    "{company}",
                    "{company}",
                    "the company {company}",
                    "the {noun} club",
                    "our company",
                    "the team {title}",
                )
            ),
        )[0], facts.GROUP
    return draw.fill(
        {},
        draw.one(
            (
                "the {adjective} {noun}",
                "the {noun}",
                "the {noun} {code}",
                "the {invented}",
                "a {item}",
                "project {title}",
                "the model {code}",
            )
        ),
    )[0], facts.THING


def _fact(draw: Draw, entity: str, options: tuple[facts.Fact, ...]) -> Stated:
    roll = draw.rng.random()
    if roll < (0.25 if draw.unusual else 0.15):
        return _free_fact(draw, entity)
    if roll < (0.4 if draw.unusual else 0.27):
        return _policy(draw)
    if roll < (0.55 if draw.unusual else 0.42) and options is not facts.PERSON:
        options = facts.ANY
    at = draw.int_in(0, len(options) - 1)
    sentences, questions = options[at]
    sentence, question = draw.fill({"e": entity}, draw.one(sentences), draw.one(questions))
    return Stated(_longer(draw, _capital(sentence)), _asked(draw, question), entity, frozenset(questions))


def _policy(draw: Draw) -> Stated:
    """Returns a fact that has its own subject."""
    at = draw.int_in(0, len(facts.POLICY) - 1)
    sentences, questions = facts.POLICY[at]
    sentence, question = draw.fill({}, draw.one(sentences), draw.one(questions))
    return Stated(_longer(draw, _capital(sentence)), _asked(draw, question), "", frozenset(questions))


_BEFORE: Final = (
    "Since {year}, ", "In {year}, ", "According to {name}, ", "As of {day}, ", "Every {weekday}, ", "Today, ", "However, ",
    "In {city}, ", "Also, ", "For many years, ", "After the {noun} was gone, ", "Like every {noun}, ",
)  # fmt: skip
_AFTER: Final = (
    ", which is {adjective}", ", says {name}", ", and that is {adjective}", ", although {first} does not like it", " ({code})",
    ", because the {noun} is {adjective}", ", as everybody in {city} knows", " and has done so since {year}", ", but not on {weekday}s",
    ", while the {adjective} {noun} does not", ", and this will not change before {year}", ", like the {noun} of {first}",
)  # fmt: skip


def _longer(draw: Draw, sentence: str) -> str:
    """Returns the sentence as it is or with something before or after it."""
    roll = draw.rng.random()
    if roll < (0.12 if draw.unusual else 0.0):
        lowered = (
            sentence[0].lower() + sentence[1:] if sentence.startswith(("The ", "Our ", "A ", "You ")) else sentence
        )
        return draw.fill({}, draw.one(_BEFORE))[0] + lowered
    if roll < (0.28 if draw.unusual else 0.03):
        return sentence[:-1] + draw.fill({}, draw.one(_AFTER))[0] + "."
    return sentence


def _asked(draw: Draw, question: str) -> str:
    """Returns the question as it is or in a frame such as ``Do you know``."""
    if draw.rather(0.05, 0.12):
        frame = draw.one(("{q} Answer from the text.", "Please tell me: {q}", "I would like to know: {q}", "According to the text, {l}",
                          "{q} I cannot find it.", "In the text, {l}", "My question is: {q}"))  # fmt: skip
        return frame.replace("{q}", _capital(question)).replace("{l}", question[0].lower() + question[1:])
    return _capital(question)


_OBJECTS: Final = (
    "{items}",
    "the {adjective} {noun}",
    "a {item}",
    "{count} {items}",
    "{phrase}",
    "{food}",
    "the {noun} of {name}",
)
_TAILS: Final = (
    "", "", "", " in {city}", " every {weekday}", " for {name}", " since {year}", " near the {noun9}", " with a {item9}",
    " and the {noun8}", " from {time} to {time2}", " during the {noun9}", " on the {nth} floor", " at the {noun9}",
)  # fmt: skip
_PRESENT_ASKED: Final = (
    "What does {e} {do}?", "What does {e} {do}?", "Tell me what {e} {does}.", "Which things does {e} {do}?",
    "What is it that {e} {does}?", "When does {e} {do} {o}?", "Where does {e} {do} {o}?", "Who {does} {o}?", "What {does} {o}?",
)  # fmt: skip
_PAST_ASKED: Final = (
    "What did {e} {do}?", "What did {e} {do}?", "Tell me what {e} {did}.", "Which things did {e} {do}?", "When did {e} {do} {o}?",
    "Where did {e} {do} {o}?", "Who {did} {o}?", "Who {did} {o}?", "What {did} {o}?",
)  # fmt: skip


def _free_fact(draw: Draw, entity: str) -> Stated:
    """Returns a fact with a verb and an object of any kind; now and then the verb itself is invented."""
    at = draw.int_in(0, len(facts.VERBS) - 1)
    do, does, did = facts.VERBS[at] if draw.rather(1.0, 0.85) else facts.regular(draw.invented())
    past = draw.chance(0.4)
    known = {"e": entity, "do": do, "does": does, "did": did}
    known["o"] = draw.fill(known, draw.one(_OBJECTS))[0]
    said = (
        "{e} " + draw.one(("will {do}", "can {do}", "must {do}"))
        if draw.rather(0.0, 0.08)
        else "{e} {did}"
        if past
        else "{e} {does}"
    )
    forms = _PAST_ASKED if past else _PRESENT_ASKED
    asked = draw.one(forms if draw.unusual else (*forms[:2], *forms[-2:]))
    sentence, question = draw.fill(known, said + " {o}" + draw.one(_TAILS) + ".", asked)
    like = (template.replace("{do}", do).replace("{does}", does).replace("{did}", did) for template in _PRESENT_ASKED)
    return Stated(_longer(draw, _capital(sentence)), _asked(draw, question), entity, frozenset(like))


def statement(draw: Draw) -> str:
    """Returns one sentence that states a fact."""
    return _fact(draw, *_entity(draw)).sentence


def passages(draw: Draw, sentences: int) -> tuple[list[str], list[Stated], Stated]:
    """Returns passages, the facts that they state and one fact of the same kind that they do not state."""
    total = max(1, round(sentences / draw.int_in(2, 5)))
    subjects = [_entity(draw) for _ in range(total)]
    stated: list[Stated] = []
    texts: list[list[str]] = [[] for _ in subjects]
    while len(stated) < sentences:
        at = len(stated) * total // sentences
        fact = _fact(draw, *subjects[at])
        if any(fact.is_like(other) for other in stated):
            continue
        entity = _capital(subjects[at][0])
        if texts[at] and fact.sentence.startswith(entity + " ") and draw.rather(0.0, 0.05):
            pronoun = draw.one(("He", "She")) if subjects[at][1] is facts.PERSON else "It"
            fact = replace(fact, sentence=pronoun + fact.sentence.removeprefix(entity))
        stated.append(fact)
        texts[at].append(fact.sentence)
    while True:
        missing = _fact(draw, *(draw.one(subjects) if draw.chance(0.7) else _entity(draw)))
        if not any(missing.is_like(other) for other in stated):
            break
    return [" ".join(text) for text in texts], stated, missing


def _bundle(draw: Draw, texts: list[str]) -> str:
    """Returns the passages as one text, as retrieval chains write them."""
    draw.rng.shuffle(texts)
    if draw.rather(0.06, 0.15):
        texts = [f"{draw.one(('# ', '## ', '### ', ''))}{draw.title()}\n\n{text}" for text in texts]
    form = draw.int_in(0, 7)
    if form == 0:
        return "\n".join(f"[{at}] {text}" for at, text in enumerate(texts, 1))
    if form == 1:
        return "\n\n".join(f"Document {at}:\n{text}" for at, text in enumerate(texts, 1))
    if form == 2:
        return "\n".join(f"- {text}" for text in texts)
    if form == 3:
        return "\n\n".join(
            f"{draw.one(('source', 'file_name', 'file_path', 'page'))}: {draw.noun()}.txt\n\n{text}" for text in texts
        )
    if form == 4:
        return " ".join(texts)
    return ("\n\n" if form < 7 else "\n").join(texts)


_LINE: Final = ("---------------------", "-----", "###", "=====", '"""', "```")
_ORDERS: Final = (
    "Answer the question from the context.", "Use only the context to answer.", "Answer from the text below.",
    "Use the passages to answer the question. If they do not say it, say so.",
    "You answer questions. Use the context below and nothing else.", "Read the text and answer the question.",
    "You are an assistant for questions about documents. Keep the answer short.",
    "With this context and no other knowledge, answer the query.", "Here is some context that may help.",
    "You are a question answering system. Never use other knowledge than the context. Do not mention the context.",
    "The following pieces were retrieved. Answer with them. If you cannot answer, say that you do not know. Use at most three sentences.", "",
)  # fmt: skip


def _ask(draw: Draw, text: str, question: str) -> list[Message]:
    """Returns the messages that give a text and ask a question about it."""
    form, order, line = draw.int_in(0, 9), draw.one(_ORDERS), draw.one(_LINE)
    label = draw.one(
        (
            "Context",
            "Text",
            "Passage",
            "Documents",
            "Information",
            "Context information",
            "Context information is below",
        )
    )
    asked = draw.one(("Question", "Query", "Q", "Question"))
    if form <= 1:
        return [*([system(order)] if order else []), user(f"{label}:\n{text}\n\n{asked}: {question}")]
    if form == 2:
        return [system(f"{order}\n\n{label}:\n{text}".strip()), user(question)]
    if form == 3:
        separator = draw.one(("\n\n", "\n", " "))
        return [
            system(f"{order} {label}: {text}".strip() if draw.chance(0.5) else order + separator + text),
            user(question),
        ]
    if form == 4:
        return [
            *maybe_system(draw, 0.6),
            user(f"{label}.\n{line}\n{text}\n{line}\n{order}\n{asked}: {question}\nAnswer: "),
        ]
    if form == 5:
        return [user(f"{order}\n{asked}: {question}\n{label}: {text}\nAnswer:".strip())]
    if form == 6:
        return [*maybe_system(draw, 0.3), user(f"{text}\n\n{question}")]
    if form == 7:
        return [*maybe_system(draw, 0.3), user(f"{text} {question}")]
    if form == 8:
        return [system(order or "Answer briefly."), user(f"{line}\n{text}\n{line}\n\n{question}")]
    return [user(f"{label}: {text}"), assistant("Thank you. What do you want to know?"), user(question)]


# questions that name no subject, and a word without which a text cannot answer them
_UNSAID: Final = (
    ("Who is the director?", "director"), ("What is the phone number?", "phone"), ("What is the email?", "email"),
    ("How many employees are there?", "employees"), ("Who is the president?", "president"), ("What is the password?", "assword"),
    ("When was it built?", "built"), ("What does it cost?", "cost"), ("Who is the owner?", "owner"), ("What is the price?", "cost"),
    ("What is the address?", "address"), ("How do I pay?", "pay"), ("Who wrote it?", "wrote"), ("What is the code?", "code"),
)  # fmt: skip


def make(draw: Draw) -> Case:
    """Returns passages with one or two questions about them."""
    roll = draw.rng.random()
    few, some = (0.45, 0.85) if draw.unusual else (0.55, 0.95)
    count = draw.int_in(1, 4) if roll < few else draw.int_in(5, 9) if roll < some else draw.int_in(10, 36)
    texts, stated, missing = passages(draw, count)
    text = _bundle(draw, texts)
    asked = draw.some(stated, draw.questions())
    pairs = [(fact.question, fact.sentence) for fact in asked]
    if draw.chance(0.2 if len(pairs) < 3 else 0.45):
        question, word = draw.one(_UNSAID)
        vague = draw.chance(0.25) and word not in text
        pairs.insert(draw.int_in(0, len(pairs)), (question if vague else missing.question, NOT_IN_TEXT))
    (question, answer), *more = pairs
    messages = [*_ask(draw, text, chatty(draw, question) if draw.rather(0.2, 0.4) else question), assistant(answer)]
    for question, answer in more:
        messages += [user(question), assistant(answer)]
    return Case("passages", tuple(messages))
