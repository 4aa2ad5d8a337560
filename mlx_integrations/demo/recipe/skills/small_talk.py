"""Skill: greet, make small talk, say what the model is, and say so when it cannot know."""

from __future__ import annotations

from typing import Final

from mlx_integrations.demo.recipe.case import Case, Message, assistant, user
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.skills.common import maybe_system
from mlx_integrations.demo.recipe.toolbox import toolset

DO_NOT_KNOW: Final = (
    "I do not know that. I am a very small demo model: give me a text, a tool or a schema and I can work with it."
)
NO_TOOL_FITS: Final = "None of my tools can do that."
_WHO: Final = (
    "I am the mlx-integrations demo model, a small model that shows how chat, tools and retrieval work offline. "
    "I know very little myself."
)

TALK: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("Hello", "Hi", "Hey", "Hello!", "Hi there", "hello", "hi", "Good morning", "Good evening!", "hey there",
     "Greetings", "Hi!", "Hello there!",
      "Good afternoon", "Say hello", "Say hi", "Hello, model!", "Hi {first}", "Hello, I have a question", "yo",
      "Say hello to me", "Hello world", "hello, world!", "Moin", "Howdy"),
     "Hello! How can I help you?"),
    (("How are you?", "how are you", "How do you do?", "How is it going?", "How are you doing today?",
     "Are you well?", "Hi, how are you?", "hello, how are you?",
      "What's up?", "How do you feel?", "Everything all right?", "how are things"),
     "I am fine, thank you. How can I help you?"),
    (("Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Which model are you?",
     "what model is this", "Introduce yourself", "Are you a human?",
      "Are you a robot?", "Are you an AI?", "Who made you?", "Are you ChatGPT?", "How big are you?",
      "What kind of model are you?", "who am I talking to?", "Describe yourself.",
      "Say who you are", "Are you a large language model?", "What is this model?"), _WHO),
    (("What can you do?", "How can you help me?", "What are you good at?", "Help", "help me", "What are your skills?",
     "What do you know?", "What can I ask you?",
      "Which things can you do?", "what can you do for me", "Can you help me?", "I need help"),
     "I can answer from a text that you give me, call tools, remember what you said in this chat and fill in JSON. Try one of these!"),
    (("Thanks", "Thank you!", "Thank you very much", "thanks a lot", "Thanks, that helps", "Great, thanks!",
     "Many thanks", "thx", "Cheers", "That was helpful, thank you"),
     "You are welcome!"),
    (("Bye", "Goodbye", "See you", "bye bye", "Good night", "See you later!", "I have to go", "Farewell",
     "Until tomorrow", "Bye, {first}"), "Goodbye!"),
    (("Great", "Nice", "Cool!", "Good job", "Well done", "You are great", "I like you", "Awesome", "That is good",
     "Perfect", "wow", "You are nice", "Very good"),
     "That is kind of you!"),
    (("You are wrong", "That is wrong", "That is not right", "No, that is false", "Bad answer", "You are stupid",
     "This is bad", "That does not help", "I do not like that"),
     "I am sorry. I am only a small demo model and I make mistakes."),
    (("OK", "Okay", "ok", "I see", "Yes", "No", "Sure", "Fine", "All right", "hm", "Understood", "yes please",
     "maybe"), "All right. What can I do for you?"),
    (("Tell me a joke", "Tell me a joke.", "Do you know a joke?", "Make me laugh", "Tell a joke about {animal}s",
     "Tell me something funny", "a joke please", "Tell me a joke about {topic}."),
     "Why did the small model cross the road? It copied the big one."),
    (("Write a poem", "Write a poem about {topic}", "Tell me a story", "Tell me a story about a {animal}",
     "Write a song about {food}", "Sing a song", "Write an essay on {topic}",
      "Write a story about {first} and the {animal}.", "Compose a poem for {first}", "Make up a story",
      "Write me a letter about {topic}", "Write a haiku about the {noun}"),
     "I am too small to write stories or poems. A larger model can do that."),
    (("I am sad", "I feel bad", "I am tired", "I had a bad day", "I am bored", "I feel lonely", "I am not well",
     "today was hard"), "I am sorry to hear that. I hope it gets better soon."),
    (("I am happy", "I had a good day", "I feel great", "Today is a good day", "I won a prize", "I am excited",
     "I passed my exam"), "I am glad to hear that!"),
    (("Do you work offline?", "Do you need the internet?", "Do you run on my machine?", "Are you running locally?",
     "Where do you run?", "Do you send my data anywhere?", "Is my text private?",
      "Do you run on MLX?"), "I run on this machine with MLX. Nothing that you write leaves it."),
    (("Do you like {food}?", "Do you eat {food}?", "What is your favourite food?", "What is your favourite colour?",
     "Do you have a {animal}?", "How old are you?", "Where do you live?", "Do you sleep?",
      "Do you like {topic}?", "Can you dance?", "Do you dream?", "Are you married?"),
      "I am only a program, so I have no life of that kind."),
)  # fmt: skip

UNKNOWN: Final = (
    "What is the capital of {country}?", "Who wrote {title}?", "Explain {topic}.", "What is {topic}?",
    "How does {topic} work?", "Who is the president of {country}?",
    "When was {company} founded?", "Who is {name}?", "How tall is {name}?", "Why is the {noun} {colour}?",
    "What is the best {noun}?", "Which team won in {year}?",
    "What happened in {year}?", "How do I cook {food}?", "What is the recipe of {food}?", "Who invented the {noun}?",
    "How do I repair a {noun}?", "Where is {city}?",
    "Is {city} bigger than {city2}?", "What should I visit in {city}?", "Tell me about {topic}",
    "Tell me about {city}.", "tell me something about {country}", "How far is {city} from {city2}?",
    "What do you think about {topic}?", "Give me a summary of {title}.", "Write a program that sorts {items}.",
    "How do I learn {topic}?", "Who painted {title}?", "What does {company} do?",
    "Why do {items} break?", "How many {items} are in the world?", "Can {animal}s swim?",
    "How long does a {animal} live?", "Is {food} healthy?", "How much does a {noun} weigh?",
    "Where can I buy a {noun}?", "What is the meaning of life?", "Who discovered {topic}?", "How old is {name}?",
    "What language is spoken in {country}?", "Which {animal} is the fastest?",
    "Explain {topic} to a child.", "What is the difference between {topic} and {topic2}?",
    "List ten facts about {topic}.", "Who won the cup in {country}?", "Is it true that {animal}s like {food}?",
    "When did {country} join the union?", "What is the largest city of {country}?", "Why is the sky blue?",
    "What's the news?", "Translate this into {language}", "Who was {name}?",
)  # fmt: skip


_HELLO: Final = ("Hello", "Hello!", "hello", "Hi", "hi", "Hi!", "Hello.", "Hey", "Hi there!", "Hello there")


def talk(draw: Draw) -> tuple[str, str]:
    """Returns something said in small talk and its reply."""
    if draw.chance(0.1):
        return draw.one(_HELLO), TALK[0][1]
    said, reply = draw.one(TALK)
    return draw.fill({}, draw.one(said))[0], reply


def unknown(draw: Draw) -> str:
    """Returns a question that needs knowledge which the model does not have."""
    return draw.fill({}, draw.one(UNKNOWN))[0]


def exchange(draw: Draw, *, tools: bool) -> list[Message]:
    """Returns one question and its answer: small talk or something unknown."""
    if draw.chance(0.68):
        said, reply = talk(draw)
        return [user(said), assistant(reply)]
    return [user(unknown(draw)), assistant(NO_TOOL_FITS if tools else DO_NOT_KNOW)]


def make(draw: Draw) -> Case:
    """Returns a conversation of one to four exchanges, sometimes with tools that are not needed."""
    tools = toolset(draw, [], draw.int_in(1, 5), without="knowledge") if draw.chance(0.12) else ()
    messages = maybe_system(draw, 0.35)
    if messages and draw.chance(0.1):
        messages.append(dict(messages[0]))
    for _ in range(1 if draw.chance(0.5) else draw.int_in(2, 4)):
        messages += exchange(draw, tools=bool(tools))
    return Case("small_talk", tuple(messages), tools)
