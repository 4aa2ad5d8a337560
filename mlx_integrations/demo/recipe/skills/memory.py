"""Skill: remember what was said earlier in the conversation."""

from __future__ import annotations

from typing import Final

from mlx_integrations.demo.recipe.case import Case, Message, assistant, calling, result, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.common import chatty, maybe_system
from mlx_integrations.demo.recipe.skills.small_talk import exchange, talk
from mlx_integrations.demo.recipe.toolbox import offer, toolset
from mlx_integrations.demo.recipe.toolkinds import CALCULATOR, WEATHER

# how it is told, the model's reply, how it is asked, the answer
Fact = tuple[tuple[str, ...], str, tuple[str, ...], str]

NAME: Final[Fact] = (
    ("My name is {name}.", "I am {name}.", "Call me {name}", "Hello, my name is {name}.", "Hi, I'm {name}!",
     "You can call me {name}.", "I am called {name}.", "Hi! I am {name}.",
     "my name is {name}", "Hello, I am {name}, nice to meet you.", "Hi, my name is {name} and I am new here."),
    "Nice to meet you, {name}!",
    ("What is my name?", "Who am I?", "Do you know my name?", "What's my name?", "Do you remember my name?",
     "Tell me my name", "what was my name?", "What am I called?", "Can you say my name?",
     "What did I say my name was?"),
    "Your name is {name}.",
)  # fmt: skip

FACTS: Final[tuple[Fact, ...]] = (
    NAME, NAME,
    (("I live in {city}.", "I am from {city}", "My home is in {city}.", "I moved to {city}.",
     "I live in {city} now."), "Got it: you live in {city}.",
     ("Where do I live?", "Which city do I live in?", "Where is my home?", "In which place do I live?",
      "Do you know where I live?"), "You live in {city}."),
    (("I work as a {job}.", "I am a {job}", "My job is {job}.", "I earn my money as a {job}."),
     "Got it: you work as {job}.",
     ("What is my job?", "What do I do for work?", "What do I work as?", "Do you know my job?"),
      "You work as {job}."),
    (("I am {age} years old.", "My age is {age}.", "I turned {age} today", "I'm {age} years old"),
     "Got it: you are {age} years old.",
     ("How old am I?", "What is my age?", "Do you know my age?", "How old did I say I am?"),
      "You are {age} years old."),
    (("I like {hobby}.", "My hobby is {hobby}.", "I love {hobby}!", "In my free time I enjoy {hobby}."),
     "Got it: you like {hobby}.",
     ("What do I like?", "What is my hobby?", "What do I enjoy?", "Do you know my hobby?"), "You like {hobby}."),
    (("I have a {animal} named {first}.", "My {animal} is called {first}.", "We have a {animal}, {first}."),
     "Got it: your {animal} is called {first}.",
     ("What is the name of my {animal}?", "What is my {animal} called?", "Do you know the name of my {animal}?"),
      "Your {animal} is called {first}."),
    (("My {kin} is called {first}.", "My {kin}'s name is {first}", "I have a {kin} named {first}."),
     "Got it: your {kin} is called {first}.",
     ("What is my {kin} called?", "What is the name of my {kin}?", "Who is my {kin}?"),
      "Your {kin} is called {first}."),
    (("Remember the number {integer}.", "Please remember the number {integer}", "The number is {integer}, keep it in mind.",
      "Keep the number {integer} for me."),
     "Got it: the number is {integer}.",
     ("Which number did I tell you?", "What was the number?", "What number should you remember?", "What is the number?"),
     "The number is {integer}."),
    (("Remember the word {word}.", "Please remember the word {word}", "The secret word is {word}.", "Keep the word {word} in mind."),
     "Got it: the word is {word}.",
     ("Which word did I tell you?", "What was the word?", "What word should you remember?", "What is the secret word?"),
     "The word is {word}."),
    (("I was born in {city}.", "I was born in {city}, in {year}.", "I grew up in {city}"), "Got it: you were born in {city}.",
     ("Where was I born?", "In which city was I born?", "Where do I come from?"), "You were born in {city}."),
    (("I bought a {item} yesterday.", "Yesterday I bought a {item}", "I have bought a {item}."), "Got it: you bought a {item}.",
     ("What did I buy?", "What have I bought?", "Which thing did I buy yesterday?"), "You bought a {item}."),
)  # fmt: skip

_OWN: Final = (
    ("My {thing} is {value}.", "my {thing} is {value}", "Remember that my {thing} is {value}.",
     "Please remember: my {thing} is {value}.", "Note that my {thing} is {value}.",
     "Keep in mind that my {thing} is {value}", "For later: my {thing} is {value}."),
    "Got it: your {thing} is {value}.",
    ("What is my {thing}?", "Do you remember my {thing}?", "Tell me my {thing}.", "What was my {thing}?",
     "what's my {thing}", "Which {thing} do I have?", "Can you repeat my {thing}?"),
    "Your {thing} is {value}.",
)  # fmt: skip
_THINGS: Final = (
    ("favourite colour", "{colour}"), ("favorite color", "{colour}"), ("favourite food", "{food}"),
     ("favorite food", "{food}"), ("favourite animal", "{animal}"),
    ("favourite number", "{integer}"), ("lucky number", "{integer}"), ("favourite city", "{city}"),
     ("favourite {noun}", "{adjective}"), ("order number", "{code}"),
    ("phone number", "{phone}"), ("email", "{email}"), ("password hint", "{phrase}"), ("room number", "{integer}"),
     ("{noun}", "{adjective}"), ("{noun} number", "{code}"),
    ("code word", "{word}"), ("favourite book", "{title}"), ("birthday", "{day}"), ("budget", "{price}"),
     ("boss", "{name}"), ("best friend", "{name}"), ("company", "{company}"),
    ("{noun} colour", "{colour}"), ("favourite sport", "{hobby}"), ("meeting", "{weekday}"), ("flight", "{code}"),
     ("size", "{count}"), ("team", "{title}"), ("nickname", "{odd}"),
)  # fmt: skip
_KIN: Final = (
    "sister",
    "brother",
    "mother",
    "father",
    "wife",
    "husband",
    "son",
    "daughter",
    "friend",
    "aunt",
    "uncle",
    "boss",
    "neighbour",
    "teacher",
)
_LATER: Final = ("By the way: ", "Also, ", "One more thing: ", "And ", "Oh, ", "Next: ")


def _fact(draw: Draw) -> tuple[str, str, str, str, str]:
    """Returns a topic and the four filled texts of a fact."""
    if draw.chance(0.45):
        said, reply, asked, answer = draw.one(FACTS)
        known = {"kin": draw.one(_KIN)}
        topic = asked[0]
    else:
        said, reply, asked, answer = _OWN
        thing, value = draw.one(_THINGS)
        known = {}
        known["thing"] = draw.fill(known, thing)[0]
        known["value"] = draw.fill(known, value)[0]
        topic = known["thing"]
    told, reply, question, answer = draw.fill(known, draw.one(said), reply, draw.one(asked), answer)
    topic = draw.fill(known, topic)[0].replace("favorite", "favourite").replace("color", "colour")
    return topic, told, reply, question, answer


def _tool_turn(draw: Draw) -> tuple[list[Message], tuple[dict[str, object], ...]]:
    """Returns an exchange in which a tool is called, and the tools."""
    offered = offer(draw, draw.one((WEATHER, CALCULATOR)))
    known: dict[str, str] = {}
    ask = draw.one([ask for ask in offered.kind.asks if isinstance(ask, str)])
    question = draw.fill(known, ask)[0]
    call = offered.call(draw, known, tuple(param.slot for param in offered.kind.params))
    known["result"] = draw.fill({}, draw.one(offered.kind.results))[0]
    answer = draw.fill(known, offered.kind.answer)[0]
    messages = [user(question), calling(call), result(known["result"], offered.name), assistant(answer)]
    return messages, toolset(draw, [offered], draw.int_in(1, 3), without="knowledge")


def make(draw: Draw) -> Case:
    """Returns a conversation that tells one to four facts, talks of other things and asks for one of the facts."""
    messages = maybe_system(draw)
    facts = {topic: rest for topic, *rest in (_fact(draw) for _ in range(draw.int_in(1, 4)))}
    tools: tuple[dict[str, object], ...] = ()
    if draw.chance(0.12):
        turn, tools = _tool_turn(draw)
    else:
        turn = []
    fillers = draw.int_in(2, 5) if draw.chance(0.05) else 1
    for at, (told, reply, _, _) in enumerate(facts.values()):
        if at and draw.chance(0.3):
            told = draw.one(_LATER) + told
        messages += [user(told), assistant(reply)]
        if fillers > 1 or draw.chance(0.25):
            for _ in range(fillers):
                messages += exchange(draw, tools=bool(tools))
        if turn and draw.chance(0.5):
            messages += turn
            turn = []
    messages += turn
    asked = draw.some(list(facts), draw.questions())
    if draw.chance(0.12):
        topic, _, _, question, answer = _fact(draw)
        if topic not in facts:
            about = (
                answer.split(" is ")[0].removeprefix("Your ")
                if answer.startswith("Your ") and " is " in answer
                else "that"
            )
            messages += [
                user(question),
                assistant(f"You have not told me {'your ' + about if about != 'that' else 'that'}."),
            ]
            return Case("memory", tuple(messages), tools)
    for topic in asked:
        _, _, question, answer = facts[topic]
        messages += [user(chatty(draw, question)), assistant(answer)]
        if draw.chance(0.1):
            said, reply = talk(draw)
            messages += [user(said), assistant(reply)]
    return Case("memory", tuple(messages), tools)
