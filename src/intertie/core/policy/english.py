"""English words by what they do to a question, for `likeness`: which may change freely, and which must not.

Closed classes only. A word that is in no list here carries meaning of its own.
"""

from __future__ import annotations

import re
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FRAME: Final = re.compile(
    r"""(?P<begin>^|[.!?]\s+) (?:
      (?:please|kindly|hello|hi|hey|okay|ok|thanks|thank\ you)\b [\s,!.]*
    | (?:can|could|would|will)\ you\ (?:please\ |kindly\ )?
      (?=(?:calculate|check|compare|convert|create|define|describe|explain|find|give|help|list|make|recommend|send
            |show|suggest|summarise|summarize|tell|translate|write)\b)
    | (?:tell|show|give)\ (?:me|us)\ (?:about\ )?
    | (?:explain|describe|define)\ (?:to\ (?:me|us)\ )?
    | help\ (?:me|us)\ (?:to\ )?
    | (?:i|we)(?:\ would|'d)\ (?:like|love)\ (?:to\ )? (?:know\ )?
    | (?:i|we)\ (?:need|want)\ (?:to\ )? (?:know\ )?
    )+""",
    re.IGNORECASE | re.VERBOSE,
)
"""How a sentence may begin without saying anything: *could you please tell me*, *I would like to know*."""

DUTY: Final = re.compile(r"\b(?:have|has|had|having|needs?|needed)\ to\b", re.IGNORECASE)
"""What is the same as *must*."""

FILLER: Final = _words(
    """
    a an the this that these those there here it its
    i me my mine myself we us our ours
    am is are be been being do does doing have has having can could would
    to of in at into so just really actually exactly simply basically please kindly thanks thank hi hello hey ok okay
    what which way ways called mean means meaning
    """
)
"""What a paraphrase may add, drop or exchange."""

COUNTED: Final = FILLER - {"am", "in"}
"""What may change freely behind a number, too, where other words are its unit."""

OPENERS: Final = FILLER | _words(
    """
    who whom whose when where why if whether should must may might will shall did was were had
    and or but because then also not no never
    add calculate change check clean compare compute convert cook count create define delete describe design download
    draw edit explain extract fill find fix format generate help implement import install list make measure name open
    pick print provide read remove rename replace reset return reverse run save send set sort split start stop
    store suggest sum summarise summarize teach test translate turn update use wash write
    """
)
"""Small words that a sentence begins with: written large there, they are no names."""

MARKERS: Final = _words(
    """
    the and are does did what what's how how's when where where's why who who's which can can't could should would
    don't doesn't didn't isn't your it with from this that these those there you they have if than please tell show
    give explain describe define convert write compare calculate need summarise summarize i'm i'd i'll i've
    """
)
"""Words of English beyond doubt: no other language with the same letters has them, or hardly ever."""

LITERAL: Final = _words(
    """
    not no never none nothing nobody nowhere neither nor without cannot except unless only instead hardly barely
    all any some every each both either several few many much more most less least enough half double twice once
    and or but if whether than versus vs while until till since during because
    before after above below over under between behind beside inside outside within beyond up down left right
    from out off away back against through across around near far per
    first second third last next previous former latter early late earlier later now then today tomorrow yesterday
    always often sometimes rarely usually still already yet again ago soon
    who when where why how should must may need needs needed
    you your yours yourself for with about by too enough
    dont doesnt didnt isnt arent wasnt cant couldnt wont wouldnt shouldnt
    should must may might will shall did was were had
    best worst better worse big small large little great long short high low tall old young new fast slow hot cold
    heavy light deep wide narrow thick thin strong weak hard soft easy difficult cheap expensive rich poor good bad
    safe dangerous legal illegal true false yes right wrong positive negative public private male female man woman
    he she him her his hers they them their theirs mother father son daughter brother sister husband wife
    maximum minimum max min increase decrease increases decreases rise fall gain lose loss win won lost profit
    buy sell lend borrow rent open close opened closed start stop begin end finish enable disable allow deny forbid
    accept reject add remove insert delete include exclude install uninstall import export input output upload
    download encrypt decrypt encode decode compress extract push pull send receive push pop lock unlock connect
    disconnect login logout sign register subscribe unsubscribe pass fail on in-person online offline raise lower
    upgrade downgrade upstream downstream import client server source target ascending descending
    north south east west northern southern eastern western morning evening day night pm
    km m cm mm mile miles metre metres meter meters kilometre kilometres kilometer kilometers foot feet ft inch inches
    yard yards kg g mg gram grams kilogram kilograms lb lbs pound pounds ounce ounces oz ton tons litre litres liter
    liters ml gallon gallons celsius fahrenheit kelvin second seconds minute minutes hour hours days week weeks month
    months year years dollar dollars euro euros yen percent byte bytes kb mb gb tb bit bits
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen
    """
)
"""What a question turns on: negation, quantity, comparison, direction, order, time, opposites, persons and units."""

SAME: Final = {
    "whom": "who", "whose": "who", "your": "you", "yours": "you", "yourself": "you", "cannot": "not", "till": "until",
    "vs": "versus", "max": "maximum", "min": "minimum", "metres": "meter", "meters": "meter", "metre": "meter",
    "litres": "liter", "liters": "liter", "litre": "liter", "kilometres": "kilometer", "kilometers": "kilometer",
    "kilometre": "kilometer", "miles": "mile", "minutes": "minute", "hours": "hour", "days": "day", "weeks": "week",
    "months": "month", "years": "year", "dollars": "dollar", "euros": "euro", "increases": "increase",
    "decreases": "decrease",
}  # fmt: skip
"""Literal words that mean the same."""

NEGATIONS: Final = _words(
    """
    nicht kein keine keinen nie niemals ohne ne pas jamais sans aucun aucune sin nunca ninguno non mai senza mica nao
    sem niet geen nooit zonder nie bez brak ikke aldri uten inte aldrig utan ei ilman tidak bukan tanpa khong
    """
)
"""Negations of other languages in ASCII: whatever the rest of a text looks like, these count."""

NO_COMPARISON: Final = _words(
    """
    answer browser center chapter computer consider container copper corner counter cover customer deliver
    developer dinner discover driver enter filter finger flower folder formatter freezer helper holder identifier
    interest interpreter leader letter loader manager matter member number offer order owner paper parameter
    pointer power prefer printer provider quarter refer remember request rest router rubber scanner
    setter silver slider speaker super supper test tester timer together transfer trigger user water weather
    winter wrapper writer chest digest forest guest harvest honest invest manifest modest nest protest suggest
    """
)
"""Words that end like a comparison and are none."""
