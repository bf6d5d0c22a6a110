"""Class names as English nouns, and the article that goes before them.

A small rule set with tables (`prompts/class_names.yaml`), no grammar: singular nouns get `a` or `an` by sound; plurals and mass nouns
lose the indefinite article ("a photo of candles", "a photo of leather"); `the` stays with every noun.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from vlad.errors import PromptError
from vlad.prompts.files import data_folder, read_yaml

DEFAULT_NOUN = "object"
MAX_LENGTH = 80  # characters; CLIP reads 77 tokens and cuts the rest off without a word

# After one of these, a phrase speaks of something else: in "lens of a camera" and "nut with flaw" the noun comes before.
BOUNDARIES = frozenset(
    re.findall(
        r"\w+",
        "about above across after against among and around as at before behind below beneath beside between by depicting during for from"
        " in inside into like near of off on onto or out over showing than that the through to toward towards under using via which while"
        " with within without",
    )
)
_LEADING_ARTICLES = re.compile(r"^[\s_]*(?:(?:an?|the)(?:[\s_]+|$))+", re.I)
_CAMEL = re.compile(r"(?<=[a-z]{2})(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z]{2})")
_SPELLED = re.compile(r"[A-Z]{2,}s?\d*|[A-Za-z]\d*")  # LED, LEDs, RJ45, the X of X-ray, M8
_VOWEL_NAMES = frozenset("AEFHILMNORSX")  # letters whose name starts with a vowel: an F, an SMD
_VOWEL_SOUND = re.compile(r"[aeiou]|y[^aeiou]|hour|honest|honou?r|heir")
_CONSONANT_SOUND = re.compile(  # written with a vowel, spoken with "y" or "w": a unit, a used, a European, a one-way
    r"eu|ewe|on(?:e|ce)(?![a-z])|uni(?!n|m(?!od)|den|ss|ll|r|gn)|unanim|unary|u(?:s[aeiu]|t[eio]|r[aeio]|biq|kul|vul|fo)"
)


@dataclass(frozen=True)
class _Tables:
    nouns: Mapping[str, str]
    acronyms: Mapping[str, str]
    spoken: frozenset[str]
    singular: frozenset[str]
    no_article: frozenset[str]


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    data = cast(dict, read_yaml(data_folder() / "class_names.yaml")[0])
    return _Tables(
        nouns={_squash(key): value for key, value in data["nouns"].items()},
        acronyms={_squash(word): word for word in data["acronyms"]},
        spoken=frozenset(data["spoken"]),
        singular=frozenset(data["singular"]),
        no_article=frozenset(data["mass"] + data["plural"]),
    )


def noun(class_name: str, *, default: str = DEFAULT_NOUN) -> str:
    """The English noun for a class name or a benchmark's folder name: `metal_nut` -> "metal nut", `pcb1` -> "printed circuit board".

    A name without letters that no benchmark uses gives the default. Raises PromptError for what cannot stand in a sentence:
    braces, line breaks and other control characters, more than 80 characters.
    """
    text = re.sub(_LEADING_ARTICLES, "", _checked(class_name))
    key = _squash(text)
    known = _tables().nouns
    if key in known:
        return known[key]
    numbered = re.fullmatch(r"(.*[a-z])\d{1,2}", key)
    if numbered and numbered[1] in known:
        return known[numbered[1]]

    is_folder_name = len(text.split()) < 2
    text = text.replace("_", " ")
    if is_folder_name:  # a folder name; in prose, hyphens and inner capitals are the writer's own
        text = _CAMEL.sub(" ", text)
        text = re.sub(r"(?<=\w\w)-(?=\w\w)", " ", text)
    shouting = text.isupper()
    result = " ".join(_spelling(word, shouting) for word in text.strip("- ").split())
    return result if any(character.isalpha() for character in result) else default


def indefinite_article(phrase: str) -> str:
    """ "a" or "an" by the sound of the phrase's first word: an hour, a unit, an LED, a USB plug, an X-ray, an 8-pin socket."""
    first = re.split(r"[\s/-]", phrase.lstrip("\"'([“‘"), maxsplit=1)[0]
    if number := re.match(r"\d+", first):
        return "an" if number[0][0] == "8" or number[0] in ("11", "18") else "a"
    if _SPELLED.fullmatch(first) and re.sub(r"s?\d*$", "", first) not in _tables().spoken:
        return "an" if first[0].upper() in _VOWEL_NAMES else "a"
    plain = "".join(c for c in unicodedata.normalize("NFKD", first.lower()) if not unicodedata.combining(c))
    return "an" if _VOWEL_SOUND.match(plain) and not _CONSONANT_SOUND.match(plain) else "a"


def takes_article(phrase: str) -> bool:
    """Whether the phrase's head noun is a countable singular: "nut with scratches" takes an article; "candles" and "leather" do not."""
    words = re.findall(r"[^\W\d_]+", head_of(phrase))
    if not words:
        return True
    last = words[-1]
    if last.isupper():  # an acronym: GPS is no plural
        return True
    last = last.lower()
    tables = _tables()
    if last in tables.singular:
        return True
    return last not in tables.no_article and not re.search(r"[^siu]s$", last)


def head_of(phrase: str) -> str:
    """The words before the first preposition: "lens" of "lens of a camera"."""
    words = phrase.split()
    end = next((i for i, word in enumerate(words) if i and word.lower() in BOUNDARIES), len(words))
    return " ".join(words[:end])


def insert(text: str, placeholder: str, phrase: str, *, singular: bool) -> str:
    """The text with its placeholder replaced by the phrase, and the placeholder's own `a` or `an` put right or, unless singular, dropped.

    That article is the nearest one before the placeholder, with at most adjectives between: the second `a` of "a photo of a small {state}".
    """
    before, found, after = text.partition(placeholder)
    if not found:
        return text
    words = before.split(" ")  # ends with "" when a space precedes the placeholder
    for i in range(len(words) - 2, -1, -1):
        word = words[i].lower()
        if word in ("a", "an"):
            following = " ".join(words[i + 1 :]) + phrase
            start = "".join(f"{earlier} " for earlier in words[:i])
            noun_phrase = f"{indefinite_article(following)} {following}" if singular else following
            return start + _like(words[i], noun_phrase) + after
        if word in BOUNDARIES or not word or word[-1] in ",.;:!?":
            break
    return before + phrase + after


def _like(model: str, text: str) -> str:
    """The text with a first capital where the model has one."""
    return text[:1].upper() + text[1:] if model[:1].isupper() else text


def _squash(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _spelling(word: str, shouting: bool) -> str:
    acronyms = _tables().acronyms
    key = _squash(word)
    if key in acronyms:
        return acronyms[key]
    if key.endswith("s") and key[:-1] in acronyms:
        return acronyms[key[:-1]] + "s"
    if re.match(r"[A-Za-z]-\w", word):  # O-ring, U-bolt
        return word[0].upper() + word[1:].lower()
    return word if word.isupper() and not shouting else word.lower()


def _checked(class_name: str) -> str:
    if not isinstance(class_name, str):
        raise PromptError(f"expected a class name as text, got {type(class_name).__name__}: give a noun such as 'metal nut'")
    text = unicodedata.normalize("NFKC", class_name)
    shown = repr(text if len(text) <= MAX_LENGTH else text[:40] + "…")
    if len(text) > MAX_LENGTH:
        raise PromptError(f"expected a class name of at most {MAX_LENGTH} characters, got {len(text)}: {shown}; give a short noun")
    for character in text:
        if character in "{}":
            raise PromptError(f"expected a class name without braces, got {shown}: give the noun itself, such as 'metal nut'")
        if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"):
            raise PromptError(f"expected a class name of one printable line, got U+{ord(character):04X} in {shown}: remove that character")
    return text
