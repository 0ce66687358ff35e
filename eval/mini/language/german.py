"""German part of the miniature language: vocabulary slots and sentence templates.

Flows in: a random generator. Flows out: token strings for `mini.language.sentences` (the notation: see
`mini.language.english`).
"""

# ruff: noqa: SIM905 - word lists read better as text

from mini.language.grammar import Grammar, Rng, Slot, digits, few_digits, pick

ONES = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
).split()
TENS = "_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()

FIRST_NAMES = [
    ["Stefan", "Stephan", "Steffan"],
    ["Sofie", "Sophie", "Sofi"],
    ["Christof", "Christoph", "Kristof"],
    ["Jakob", "Jacob"],
    ["Klara", "Clara"],
    ["Lukas", "Lucas"],
    ["Katharina", "Catarina", "Katarina"],
    ["Rolf", "Rolph", "Rolff"],
    ["Günter", "Günther", "Guenter"],
    ["Tomas", "Thomas"],
    ["Marta", "Martha"],
    ["Walter", "Walther"],
]
LAST_NAMES = [
    ["Meier", "Meyer", "Maier", "Mayer"],
    ["Schmidt", "Schmitt", "Schmid"],
    ["Kramer", "Cramer", "Krahmer"],
    ["Schulze", "Schultze", "Schulzeh"],
    ["Fischer", "Vischer"],
    ["Kaufmann", "Kauffmann", "Kaufman"],
    ["Hofmann", "Hoffmann", "Hofman"],
    ["Beck", "Bek", "Behck"],
    ["Peters", "Pehters"],
    ["Vogt", "Voigt"],
]
PLAIN_NAMES = (
    "Anna Peter Laura Daniel Julia Martin Paula Heinrich Greta Felix Maria Simon Lena Oskar Robert Helene Emil Alina "
    "Georg Frieda Moritz Ida"
).split()


def number(value: int) -> str:
    """Spell a whole number below one million as one word."""
    if value < 20:
        return ONES[value]
    if value < 100:
        one = "ein" if value % 10 == 1 else ONES[value % 10]
        return (one + "und" if value % 10 else "") + TENS[value // 10]
    if value < 1000:
        head = "ein" if value // 100 == 1 else ONES[value // 100]
        return head + "hundert" + (number(value % 100) if value % 100 else "")
    head = "ein" if value // 1000 == 1 else number(value // 1000)
    return head + "tausend" + (number(value % 1000) if value % 1000 else "")


def _number(rng: Rng) -> str:
    return number(int(rng.integers(0, pick(rng, (13, 100, 100, 1000, 10000)))))


def _small(rng: Rng) -> str:
    return number(int(rng.integers(2, 100)))


def _digits(rng: Rng) -> str:
    return digits(rng, ONES[:10], 3, 8)


def _few_digits(rng: Rng) -> str:
    return few_digits(rng, ONES[:10], " ")


def _year(rng: Rng) -> str:
    return f"{number(int(rng.integers(17, 20)))}hundert{number(int(rng.integers(1, 100)))}"


def _clock(rng: Rng) -> str:
    hour = int(rng.integers(1, 13))
    style = int(rng.integers(0, 3))
    if style == 0:
        return f"halb {number(hour)}"
    if style == 1:
        return f"Viertel {pick(rng, ('vor', 'nach'))} {number(hour)}"
    tail = f" {number(int(rng.integers(2, 60)))}" if rng.random() < 0.5 else ""
    return f"{'ein' if hour == 1 else number(hour)} Uhr{tail}"


def _ordinal(rng: Rng) -> str:
    value = int(rng.integers(1, 32))
    special = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}
    return special.get(value, number(value) + ("ten" if value < 20 else "sten"))


def _price(rng: Rng) -> str:
    tail = f" {number(int(rng.integers(2, 100)))}" if rng.random() < 0.4 else ""
    unit = pick(rng, ("Euro", "Euro", "Dollar", "Franken"))
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
    "device": [
        "das Licht", "die Lampe", "den Lüfter", "die Heizung", "das Radio", "den Fernseher", "den Drucker",
        "die Kamera", "den Ofen", "die Musik",
    ],
    "room": [
        "in der Küche", "im Schlafzimmer", "im Bad", "im Büro", "im Garten", "in der Garage", "im Flur", "im Keller",
    ],
    "onoff": ["an", "aus", "ein"],
    "day": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split(),
    "when": ["heute", "morgen", "am {day}", "übermorgen", "heute Abend"],
    "month": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split(),
    "city": "London Berlin Paris München Dresden Wien Zürich Madrid Köln Hamburg Rom Leipzig".split(),
    "unit": "Minuten Stunden Sekunden Tage Wochen".split(),
    "color": "rote grüne blaue weiße schwarze gelbe braune graue".split(),
    "food": "Brot Milch Kaffee Äpfel Käse Wasser Zucker Reis Tee Suppe Butter Zitronen".split(),
    "thing": "Tasche Flasche Karte Kiste Jacke Zeitung Uhr Brille Tür Decke".split(),
    "animal": "Katze Maus Ziege Ente Kuh Schlange Biene Spinne".split(),
    "weather": "sonnig regnerisch wolkig windig kalt warm neblig".split(),
    "adj": "kleine große alte neue schnelle leise schwere billige schöne saubere".split(),
    "verb": "sieht findet kauft braucht trägt verkauft sucht".split(),
    "place": [
        "am Bahnhof", "am Flughafen", "im Krankenhaus", "auf dem Markt", "im Museum", "in der Schule", "im Hotel",
    ],
}  # fmt: skip

SENTENCES = [
    "Schalte {device} {room} {onoff}.",
    "Bitte mach {device} {onoff}.",
    "Stelle den Wecker auf {clock}.",
    "Stelle einen Wecker für {s} {unit}.",
    "Stelle {device} auf {s} Prozent.",
    "Ruf {name} um {clock} an.",
    "Schick {name} die {adj} {thing}.",
    "Wie spät ist es in {city}?",
    "Wie wird das Wetter {when} in {city}?",
    "{when} wird es {weather} und {weather}.",
    "Meine Nummer ist {digits}.",
    "Der Code ist {digits}, nicht {digits}.",
    "Die {thing} kostet {price}.",
    "Ich habe {price} für die {adj} {thing} bezahlt.",
    "{name} zahlt {price} für {food} und {food}.",
    "Der Zug nach {city} fährt um {clock}.",
    "Der Bus Nummer {s} hält {place}.",
    "Wir treffen uns am {day}, dem {ord} {month}.",
    "Mein Geburtstag ist am {ord} {month}.",
    "{name} wurde {year} in {city} geboren.",
    "Es sind {n} Leute {place}.",
    "Kaufe {food}, {food} und {food}.",
    "{n} plus {s} ist {n}.",
    "Die {adj} {animal} {verb} die {color} {thing}.",
    "{name} {verb} die {adj} {thing} und die {color} {animal}.",
    "Wo ist die {color} {thing}?",
    "Kannst du die {thing} {place} abholen?",
    "Vergiss {food} und die {thing} nicht.",
    "Wie weit ist es von {city} nach {city}?",
    "{when} sind es {s} Grad.",
    "Erinnere mich {when} an {name}.",
    "{name} und {name} sind {place}.",
    "Ich bin um {clock} {place}.",
    "Guten {greet}, {name}.",
]
SLOTS["greet"] = ["Morgen", "Abend", "Tag"]

SHORT = [
    "Ja.", "Nein.", "Stopp.", "Danke.", "Hallo.", "Guten {greet}.", "{n}.", "{s}.", "{day}.", "{ord} {month}.",
    "{name}.", "{color}.", "{city}.", "{clock}.", "{price}.", "Ruf {name} an.", "Lauter.", "Hilfe.", "Weiter.",
    "{food}.", "{place}.", "{digits}.", "Die {thing}.", "Mach {onoff}.", "{year}.", "{adj} {thing}.", "{animal}.",
]  # fmt: skip

NAMED = [
    "Bitte ruf {rare} um {clock} an.",
    "Schick {rare} die {thing}.",
    "{rare} wohnt in {city}.",
    "Das Treffen mit {rare} ist am {day}.",
    "{rare} zahlt {price}.",
    "Ich habe {rare} {place} gesehen.",
    "Ist {rare} {room}?",
    "{rare} und {name} brauchen die {thing}.",
    "Mein Name ist {rare}.",
    "Guten {greet}, {rare}.",
]

GRAMMAR = Grammar(
    language="German",
    sentences=SENTENCES,
    short=SHORT,
    named=NAMED,
    slots=SLOTS,
    name_groups=(FIRST_NAMES, LAST_NAMES),
    joiner=" ",
    full_stop=".",
)
