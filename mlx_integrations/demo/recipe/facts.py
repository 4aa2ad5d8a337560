"""Facts that passages state, each with the questions it answers.

A question always shares a telling word with its statement, since a model this small finds an answer by the words it
shares.
"""

from __future__ import annotations

from typing import Final

Fact = tuple[tuple[str, ...], tuple[str, ...]]

PLACE: Final[tuple[Fact, ...]] = (
    (("{e} opens at {time}.", "{e} opens at {time} on {weekday}.", "{e} opens every day at {time}."),
     ("When does {e} open?", "What time does {e} open?", "At what time does {e} open?", "when is {e} open?")),
    (("{e} closes at {time}.", "{e} closes at {time} on {weekday}s."),
     ("When does {e} close?", "What time does {e} close?", "Until when can I stay before {e} closes?")),
    (("{e} was built in {year}.", "{e} was built in {year} by {name}.", "{e} was built by {name} in {year}."),
     ("When was {e} built?", "In which year was {e} built?", "Who built {e}?", "How old is {e}, when was it built?")),
    (("{e} is in {city}.", "{e} is located in {city}.", "{e} is located near the {noun} in {city}.",
     "{e} lies in {city}, {country}."), ("Where is {e}?", "In which city is {e} located?", "Where is {e} located?",
     "Which city is {e} in?")),
    (("A ticket for {e} costs {price} {currency}.", "{e} costs {price} {currency} to enter.",
     "Entry to {e} costs {count} {currency}."), ("How much does a ticket for {e} cost?", "What does {e} cost?",
     "What is the price of {e}?", "How much does {e} cost?")),
    (("{e} has {count} {items}.", "{e} has {count} rooms.", "{e} has a collection of {integer} {items}."),
     ("What does {e} have?", "How many {items} does {e} have?", "How many rooms does {e} have?")),
    (("{e} is famous for its {items}.", "{e} is known for {food}.", "{e} is famous for its {adjective} {noun}."),
     ("What is {e} famous for?", "What is {e} known for?", "Why is {e} famous?")),
    (("{name} is the director of {e}.", "The director of {e} is {name}.",
     "{name} has been the director of {e} since {year}."), ("Who is the director of {e}?", "Who directs {e}?",
     "What is the name of the director of {e}?")),
    (("{e} is closed on {weekday}s.", "{e} is closed on {weekday} and {weekday2}."),
     ("When is {e} closed?", "On which day is {e} closed?", "Which days is {e} closed?")),
    (("{e} sells {items} and {items2}.", "{e} sells {food} on {weekday}s."),
     ("What does {e} sell?", "Which things does {e} sell?", "What can I buy at {e}, what does it sell?")),
    (("{e} is {integer} meters high.", "{e} is {integer} meters long and {count} meters wide."),
     ("How high is {e}?", "How many meters is {e}?", "How long is {e}?")),
    (("Visitors of {e} must bring a {item}.", "Visitors of {e} may not bring a {item}."),
     ("What must visitors of {e} bring?", "What should I bring to {e}?", "What do visitors of {e} need?")),
    (("The phone number of {e} is {phone}.", "You can call {e} at {phone}."),
     ("What is the phone number of {e}?", "How can I call {e}?", "Which number do I call for {e}?")),
)  # fmt: skip

PERSON: Final[tuple[Fact, ...]] = (
    (("{e} works as a {job}.", "{e} works as a {job} in {city}.", "{e} works as a {job} at {company}."),
     ("What does {e} work as?", "What is the job of {e}?", "Where does {e} work?", "What work does {e} do?")),
    (("{e} lives in {city}.", "{e} lives in a {adjective} house in {city}.", "{e} lives near the {noun} in {city}."),
     ("Where does {e} live?", "In which city does {e} live?", "Which city does {e} live in?")),
    (("{e} was born in {year}.", "{e} was born in {city} in {year}.", "{e} was born on {day}."),
     ("When was {e} born?", "Where was {e} born?", "In which year was {e} born?",
      "What is the birth year of {e}, who was born then?")),
    (("{e} likes {food}.", "{e} likes {hobby} and {hobby2}.", "{e} likes {items}."),
     ("What does {e} like?", "Which thing does {e} like?", "What does {e} like most?")),
    (("{e} is {age} years old.",), ("How old is {e}?", "What is the age of {e} in years?",
     "How many years old is {e}?")),
    (("{e} has a {animal} named {first}.", "{e} has {count} {items}.", "{e} has a {adjective} {noun}."),
     ("What does {e} have?", "What is the pet of {e}, which animal does {e} have?",
      "What kind of things does {e} have?")),
    (("{e} speaks {language} and {language2}.", "{e} speaks {language}."),
     ("What does {e} speak?", "Which language does {e} speak?", "Which languages does {e} speak?")),
    (("{e} wrote the book {title}.", "{e} wrote {title} in {year}."),
     ("What did {e} write?", "Which book did {e} write?", "Who wrote {title}?", "When did {e} write {title}?")),
    (("{e} invented the {noun} in {year}.", "{e} invented the {adjective} {noun}."),
     ("What did {e} invent?", "Who invented the {noun}?", "When did {e} invent the {noun}?")),
    (("{e} is married to {name}.", "{e} is married to {name} from {city}."),
     ("Who is {e} married to?", "Whom did {e} marry, who is {e} married to?", "Is {e} married?")),
    (("{e} plays the {noun}.", "{e} plays the {noun} every {weekday}."),
     ("What does {e} play?", "Which instrument does {e} play?", "When does {e} play the {noun}?")),
    (("The email of {e} is {email}.", "{e} can be reached at {email}."),
     ("What is the email of {e}?", "How can {e} be reached?", "Where can I reach {e}, what is the email?")),
    (("{e} drives a {colour} {noun}.", "{e} drives to {city} every {weekday}."),
     ("What does {e} drive?", "Which car does {e} drive?", "Where does {e} drive?")),
)  # fmt: skip

THING: Final[tuple[Fact, ...]] = (
    (("{e} is made of {noun} and {noun2}.", "{e} is made of {noun}."),
     ("What is {e} made of?", "Which material is {e} made of?", "From what is {e} made?")),
    (("{e} costs {price} {currency}.", "{e} costs {price} {currency} in {city}."),
     ("How much does {e} cost?", "What does {e} cost?", "What is the price of {e}?",
      "How expensive is {e}, what does it cost?")),
    (("{e} weighs {amount} {unit}.",), ("How much does {e} weigh?", "What does {e} weigh?",
     "What is the weight of {e}?")),
    (("{e} is {colour}.", "{e} is {colour} and {adjective}.", "The colour of {e} is {colour}."),
     ("What colour is {e}?", "What is the colour of {e}?", "Which colour does {e} have?",
      "How does {e} look, what colour is it?")),
    (("{e} was invented by {name}.", "{e} was invented in {year} by {name}."),
     ("Who invented {e}?", "When was {e} invented?", "By whom was {e} invented?")),
    (("{e} comes with a {item}.", "{e} comes with a warranty of {count} years."),
     ("What comes with {e}?", "What does {e} come with?", "Which extra comes with {e}?",
      "How long is the warranty of {e}?")),
    (("{e} was sold to {name}.", "{e} was sold to {company} in {year}."),
     ("Who was {e} sold to?", "To whom was {e} sold?", "When was {e} sold?")),
    (("{e} needs {count} {items}.", "{e} needs {amount} {unit} of {noun}.", "{e} needs a {item}."),
     ("What does {e} need?", "How much does {e} need?", "Which parts does {e} need?")),
    (("{e} belongs to {name}.", "{e} belongs to {company}."), ("Who does {e} belong to?", "To whom does {e} belong?",
     "Who owns {e}, to whom does it belong?")),
    (("{e} stands beside the {noun} in {city}.", "{e} stands on the {adjective} {noun}."),
     ("Where does {e} stand?", "Beside what does {e} stand?", "Where can I find {e}, where does it stand?")),
    (("The code of {e} is {code}.", "{e} has the code {code}."),
     ("What is the code of {e}?", "Which code does {e} have?")),
    (("{e} arrives on {day}.", "{e} arrives at {time} on {weekday}."),
     ("When does {e} arrive?", "On which day does {e} arrive?", "What time does {e} arrive?")),
    (("{e} was found in {city} by {name}.", "{e} was found in {year}."),
     ("Who found {e}?", "Where was {e} found?", "When was {e} found?")),
)  # fmt: skip

GROUP: Final[tuple[Fact, ...]] = (
    (("{e} was founded in {year}.", "{e} was founded in {city} in {year}.", "{e} was founded by {name}."),
     ("When was {e} founded?", "Where was {e} founded?", "Who founded {e}?", "In which year was {e} founded?")),
    (("{e} has {integer} employees.", "{e} employs {integer} people in {city}."),
     ("How many employees does {e} have?", "How many people does {e} employ?",
      "How big is {e}, how many employees?")),
    (("{e} makes {items}.", "{e} makes {items} and {items2} in {city}."),
     ("What does {e} make?", "Which products does {e} make?", "Where does {e} make {items}?")),
    (("{name} leads {e}.", "{name} leads {e} since {year}."), ("Who leads {e}?", "Which person leads {e}?")),
    (("The office of {e} is in {city}.", "The main office of {e} is on the {noun} road in {city}."),
     ("Where is the office of {e}?", "In which city is the office of {e}?", "Where does {e} have its office?")),
    (("Employees of {e} get {count} days of holiday.", "{e} gives {count} days of holiday a year."),
     ("How many days of holiday does {e} give?", "How many holiday days are there at {e}?",
      "How many days of holiday do employees of {e} get?")),
    (("{e} earned {amount} million {currency} in {year}.",), ("How much did {e} earn?",
     "How much did {e} earn in {year}?", "What did {e} earn?")),
    (("{e} pays the bill within {count} days.", "Invoices of {e} are due within {count} days."),
     ("When are invoices of {e} due?", "Within how many days does {e} pay the bill?",
      "How many days until invoices of {e} are due?")),
    (("{e} ships orders on {weekday}.", "{e} ships orders within {count} days."),
     ("When does {e} ship orders?", "How fast does {e} ship orders?", "On which day does {e} ship?")),
    (("The password of {e} must have {count} letters.", "{e} asks for a password of {count} letters."),
     ("How many letters must the password of {e} have?", "How long is the password of {e}?",
      "Which password does {e} ask for?")),
)  # fmt: skip

ANY: Final[tuple[Fact, ...]] = (
    (("{e} is a {adjective} {noun}.", "{e} is a {noun} for {items}.", "{e} is a kind of {noun} that {job}s use."),
     ("What is {e}?", "What kind of thing is {e}?", "Explain what {e} is.", "what is {e}")),
    (("{e} was released in {month} {year}.", "{e} was released by {company} in {month} {year}.", "{e} came out in {year}."),
     ("When was {e} released?", "Who released {e}?", "When did {e} come out?", "In which month was {e} released?")),
    (("{e} is on the {nth} floor.", "{e} is on the {nth} floor, beside the {noun}.", "You find {e} behind the {noun}."),
     ("Where is {e}?", "On which floor is {e}?", "Where do I find {e}?", "Where can I find {e}?")),
    (("{e} is free for {job}s.", "{e} is free on {weekday}s.", "{e} is free of charge."),
     ("Is {e} free?", "For whom is {e} free?", "When is {e} free?", "Do I pay for {e}?")),
    (("{e} lasts {few} {spans}.", "{e} lasts from {time} to {time2}."), ("How long does {e} last?", "How long is {e}?", "When does {e} last?")),
    (("{e} starts on {day}.", "{e} starts at {time}.", "{e} starts in {month}."), ("When does {e} start?", "What time does {e} start?", "At what date does {e} start?")),
    (("{e} can be kept for {few} {spans}.", "{e} may be used for {few} {spans}."), ("How long can I keep {e}?", "How long may {e} be used?", "For how long may I keep {e}?")),
    (("{e} falls back to the {noun} when the {noun2} fails.", "{e} works without the {noun}.", "{e} works with {items} and {items2}."),
     ("What does {e} do when the {noun2} fails?", "What does {e} work with?", "How does {e} work?", "Does {e} work without the {noun}?")),
    (("{e} is allowed in the {noun}.", "{e} is not allowed in the {noun}."), ("Is {e} allowed in the {noun}?", "Where is {e} allowed?", "May I bring {e} to the {noun}?")),
    (("{e} was changed on {day}.", "{e} was last changed by {name}."), ("When was {e} changed?", "Who changed {e}?", "Who last changed {e}?")),
)  # fmt: skip

# facts of their own, with no subject that other facts share
POLICY: Final[tuple[Fact, ...]] = (
    (("{items} may be kept for {few} {spans}.", "{items} can be kept for {few} {spans}."),
     ("How long may I keep {items}?", "How long can {items} be kept?", "For how long may I keep {items}?")),
    (("A {item} costs {price} {currency}.", "A {item} costs {count} {currency} a year."),
     ("How much is a {item}?", "How much does a {item} cost?", "What does a {item} cost?", "What is the price of a {item}?")),
    (("It was released by {company} in {month} {year}.", "It was released in {month} {year}."),
     ("When was it released?", "When was {company} released?", "When was this released?")),
    (("Customers can return {items} within {count} days.", "You can return {items} within {few} {spans}."),
     ("How long can I return {items}?", "Within how many days can I return {items}?", "Can I return {items}?", "What is the return policy for {items}?")),
    (("Shipping to {country} costs {price} {currency}.", "Shipping to {country} takes {count} days."),
     ("How much does shipping to {country} cost?", "How long does shipping to {country} take?", "What about shipping to {country}?")),
    (("Refunds for {items} are paid within {few} {spans}.",), ("When are refunds for {items} paid?", "How long do refunds for {items} take?", "When do I get a refund for {items}?")),
    (("To reset the {noun}, press the {adjective} {noun2}.", "To reset the {noun}, hold the {noun2} for {few} seconds."),
     ("How do I reset the {noun}?", "How can I reset the {noun}?", "What must I press to reset the {noun}?")),
    (("If the {noun} is {adjective}, call {name}.", "If the {noun} is {adjective}, use the {noun2}."),
     ("What do I do if the {noun} is {adjective}?", "Whom do I call if the {noun} is {adjective}?", "The {noun} is {adjective}, what now?")),
    (("Employees may work from {city} for {few} {spans}.", "Employees get {count} days of {hobby} a year."),
     ("How long may employees work from {city}?", "How many days of {hobby} do employees get?")),
    (("The meeting about {topic} is on {weekday} at {time}.", "The meeting about {topic} was moved to {day}."),
     ("When is the meeting about {topic}?", "On which day is the meeting about {topic}?", "What time is the meeting about {topic}?")),
    (("Passwords must have at least {count} letters.", "Passwords expire after {count} days."),
     ("How long must passwords be?", "When do passwords expire?", "How many letters must passwords have?", "What are the rules for passwords?")),
    (("{name} won the {noun} prize in {year}.", "{name} won the {adjective} {noun} prize."), ("Who won the {noun} prize?", "When did {name} win the prize?", "What did {name} win?")),
    (("In {year}, {name} moved to {city}.", "In {month} {year}, {name} opened a {noun} in {city}."), ("Where did {name} move?", "When did {name} move to {city}?", "What did {name} open?")),
    (("The capital of {country} is {city}.", "The largest city of {country} is {city}."), ("What is the capital of {country}?", "What is the largest city of {country}?", "Which city is the capital of {country}?")),
    (("The {noun} of {name} is {colour}.", "The {noun} of {name} costs {price} {currency}.", "The {noun} of {name} is in {city}."),
     ("What is the {noun} of {name}?", "Which colour is the {noun} of {name}?", "How much is the {noun} of {name}?", "Where is the {noun} of {name}?")),
)  # fmt: skip

# base form, third person, past; regular verbs are derived
_REGULAR: Final = (
    "paint repair load clean cook bake collect measure print protect produce support watch need want help follow call "
    "visit open close lock save move start stop check test order serve offer accept reject replace remove update deliver "
    "connect charge handle process manage plan design mix wash fill pack push pull lift drop turn cover record play "
    "answer ask invite join attack defend guard border cross pass train treat heal plant harvest roast boil share trade "
    "rent exchange import export publish review edit translate describe explain include require allow prevent reduce "
    "double split count weigh host sponsor own love hate like prefer use store reach contain provide show carry study"
).split()
_IRREGULAR: Final = (
    ("sell", "sells", "sold"), ("keep", "keeps", "kept"), ("build", "builds", "built"), ("grow", "grows", "grew"),
    ("wear", "wears", "wore"), ("read", "reads", "read"), ("eat", "eats", "ate"), ("drink", "drinks", "drank"),
    ("bring", "brings", "brought"), ("teach", "teaches", "taught"), ("send", "sends", "sent"), ("hold", "holds", "held"),
    ("find", "finds", "found"), ("feed", "feeds", "fed"), ("run", "runs", "ran"), ("buy", "buys", "bought"),
    ("write", "writes", "wrote"), ("draw", "draws", "drew"), ("win", "wins", "won"), ("lose", "loses", "lost"),
    ("catch", "catches", "caught"), ("throw", "throws", "threw"), ("give", "gives", "gave"), ("take", "takes", "took"),
    ("make", "makes", "made"), ("break", "breaks", "broke"), ("leave", "leaves", "left"), ("meet", "meets", "met"),
    ("sing", "sings", "sang"), ("drive", "drives", "drove"), ("steal", "steals", "stole"), ("hide", "hides", "hid"),
)  # fmt: skip


def regular(verb: str) -> tuple[str, str, str]:
    """Returns a regular verb's base form, third person and past."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb, verb[:-1] + "ies", verb[:-1] + "ied"
    ending = "es" if verb.endswith(("s", "x", "sh", "ch")) else "s"
    return verb, verb + ending, verb + ("d" if verb.endswith("e") else "ed")


VERBS: Final = (*_IRREGULAR, *(regular(verb) for verb in _REGULAR))
