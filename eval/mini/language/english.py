"""English part of the miniature language: vocabulary slots and sentence templates.

Flows in: a random generator. Flows out: token strings for `mini.language.sentences`, where ``written|spoken`` marks
a token whose sound differs from its spelling, so that only the context in the prompt can tell the spelling.
"""

# ruff: noqa: SIM905 - word lists read better as text

from mini.language.grammar import Grammar, Rng, Slot, digits, few_digits, pick

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()

# Same sound, several spellings; the first one is what is written when no context says otherwise.
FIRST_NAMES = [
    ["Catherine", "Kathryn", "Katharine"],
    ["Philip", "Phillip", "Filip"],
    ["Steven", "Stephen", "Stefen"],
    ["Sara", "Sarah", "Zarah"],
    ["John", "Jon"],
    ["Mark", "Marc"],
    ["Eric", "Erik", "Aric"],
    ["Carl", "Karl"],
    ["Ann", "Anne"],
    ["Geoffrey", "Jeffrey", "Jeffry"],
    ["Sean", "Shawn", "Shaun"],
    ["Alan", "Allen", "Allan"],
    ["Brian", "Bryan"],
    ["Teresa", "Theresa"],
    ["Nicholas", "Nicolas", "Nikolas"],
    ["Megan", "Meghan", "Meagan"],
]
LAST_NAMES = [
    ["Smith", "Smyth"],
    ["Clark", "Clarke", "Klarck"],
    ["Brown", "Browne", "Braun"],
    ["Reed", "Reid", "Read"],
    ["Lewis", "Louis", "Luis"],
    ["Green", "Greene"],
    ["Cook", "Cooke"],
    ["Grey", "Gray"],
    ["Harte", "Hart"],
    ["Lane", "Layne"],
    ["Nielsen", "Nilsen"],
    ["Pierce", "Pearce", "Peirce"],
]
PLAIN_NAMES = (
    "Anna Peter Laura Daniel Emma Oliver Julia Martin Olivia Henry Clara Victor Nora Felix Maria Simon Lucy Oscar "
    "Grace Robert Helen Jacob Alice George"
).split()


def number(value: int) -> str:
    """Spell a whole number below one million, with hyphens as in print."""
    if value < 20:
        return ONES[value]
    if value < 100:
        return TENS[value // 10] + ("-" + ONES[value % 10] if value % 10 else "")
    if value < 1000:
        rest = f" and {number(value % 100)}" if value % 100 else ""
        return f"{ONES[value // 100]} hundred{rest}"
    rest = f" {number(value % 1000)}" if value % 1000 else ""
    return f"{number(value // 1000)} thousand{rest}"


def _number(rng: Rng) -> str:
    return number(int(rng.integers(0, pick(rng, (13, 100, 100, 1000, 10000, 100000)))))


def _small(rng: Rng) -> str:
    return number(int(rng.integers(2, 100)))


def _digits(rng: Rng) -> str:
    return digits(rng, ONES[:10], 3, 8)


def _few_digits(rng: Rng) -> str:
    return few_digits(rng, ONES[:10], " ")


def _year(rng: Rng) -> str:
    first, second = int(rng.integers(17, 21)), int(rng.integers(10, 100))
    return f"{number(first)} {number(second)}"


def _clock(rng: Rng) -> str:
    hour = ONES[int(rng.integers(1, 13))]
    style = int(rng.integers(0, 4))
    if style == 0:
        return f"half past {hour}"
    if style == 1:
        return f"quarter {pick(rng, ('to', 'past'))} {hour}"
    return f"{hour} {number(int(rng.integers(10, 60)))}" if style == 2 else f"{hour} o'clock"


def _ordinal(rng: Rng) -> str:
    words = (
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third "
        "twenty-fourth twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
    )
    return pick(rng, words.split())


def _price(rng: Rng) -> str:
    unit, cents = pick(rng, (("dollars", "cents"), ("euros", "cents"), ("pounds", "pence")))
    tail = f" and {number(int(rng.integers(2, 100)))} {cents}" if rng.random() < 0.4 else ""
    return f"{number(int(rng.integers(2, 300)))} {unit}{tail}"


SLOTS: dict[str, Slot] = {
    "n": _number,
    "s": _small,
    "digits": _digits,
    "few_digits": _few_digits,
    "year": _year,
    "clock": _clock,
    "ord": _ordinal,
    "price": _price,
    "name": PLAIN_NAMES,
    "device": "light lamp fan heater radio television printer computer camera alarm oven music".split(),
    "room": "kitchen bedroom bathroom office garden garage hall basement".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday today tomorrow".split(),
    "month": "January February March April May June July August September October November December".split(),
    "city": "London Berlin Paris Boston Dublin Vienna Chicago Madrid Oxford Hamburg Rome Sydney".split(),
    "part": ["in the morning", "in the evening", "at night", "this afternoon"],
    "unit": "minutes hours seconds days weeks".split(),
    "color": "red green blue white black yellow brown purple".split(),
    "food": "bread milk coffee apples cheese water sugar rice tea soup butter lemons".split(),
    "thing": "book bag phone bottle table chair ticket letter box picture key umbrella".split(),
    "animal": "dog cat horse bird fox rabbit mouse fish".split(),
    "weather": "sunny rainy cloudy windy cold warm foggy".split(),
    "adj": "small big old new quick quiet heavy cheap beautiful clean".split(),
    "verb": "sees finds buys wants needs carries likes sells".split(),
    "place": "station airport library hospital market museum school hotel bank restaurant".split(),
    "song": ["morning song", "rain music", "piano music", "slow jazz", "loud rock", "old songs"],
}

SENTENCES = [
    "Turn {onoff} the {device} in the {room}.",
    "Please turn {onoff} the {color} {device}.",
    "Set a timer for {s} {unit}.",
    "Set the {device} to {s} percent.",
    "Wake me up at {clock} {part}.",
    "Call {name} at {clock}.",
    "Send a letter to {name}.",
    "Play some {song} in the {room}.",
    "What time is it in {city}?",
    "How is the weather in {city} {day}?",
    "It will be {weather} and {weather} in {city}.",
    "My number is {digits}.",
    "The code is {digits}, not {digits}.",
    "The {thing} costs {price}.",
    "I paid {price} for the {adj} {thing}.",
    "{name} paid {price} for {food} and {food}.",
    "The train to {city} leaves at {clock}.",
    "The bus number {s} goes to the {place}.",
    "The meeting is on {day}, {month} {ord}.",
    "My birthday is on {month} {ord}.",
    "{name} was born on {month} {ord}, {year}.",
    "In {year} we lived in {city}.",
    "There are {n} people in the {place}.",
    "We need {s} {unit} to the {place}.",
    "Buy {food}, {food} and {food}.",
    "{n} plus {s} is {n}.",
    "The {adj} {animal} {verb} the {color} {thing}.",
    "{name} {verb} a {adj} {thing} and a {color} {animal}.",
    "Where is the {color} {thing}?",
    "Can you bring the {thing} to the {room}?",
    "Open the {thing} and close the {thing}.",
    "Do not forget the {food} and the {thing}.",
    "How far is it from {city} to {city}?",
    "The temperature is {s} degrees {part}.",
    "Remind me to call {name} on {day}.",
    "{name} and {name} are in the {place}.",
    "I will see you at the {place} at {clock}.",
    "Room {digits} is on the {ord} floor.",
    "The {device} in the {room} is {adj} and {color}.",
    "Good {greet}, {name}.",
]
SLOTS["onoff"] = ["on", "off"]
SLOTS["greet"] = ["morning", "evening", "night"]

SHORT = [
    "Yes.", "No.", "Stop.", "Thank you.", "Hello.", "Good {greet}.", "{n}.", "{s}.", "{day}.", "{month} {ord}.",
    "{name}.", "{color}.", "{city}.", "{clock}.", "{price}.", "Call {name}.", "Next song.", "Louder.", "Help.",
    "Go on.", "{food}.", "{place}.", "{digits}.", "The {thing}.", "Turn it {onoff}.", "{year}.", "{adj} {thing}.",
    "{animal}.",
]  # fmt: skip

NAMED = [
    "Please call {rare} at {clock}.",
    "Send the {thing} to {rare}.",
    "{rare} lives in {city}.",
    "The meeting with {rare} is on {day}.",
    "{rare} paid {price}.",
    "I met {rare} at the {place}.",
    "Is {rare} in the {room}?",
    "{rare} and {name} need the {thing}.",
    "My name is {rare}.",
    "Good {greet}, {rare}.",
]

GRAMMAR = Grammar(
    language="English",
    sentences=SENTENCES,
    short=SHORT,
    named=NAMED,
    slots=SLOTS,
    name_groups=(FIRST_NAMES, LAST_NAMES),
    joiner=" ",
    full_stop=".",
)
