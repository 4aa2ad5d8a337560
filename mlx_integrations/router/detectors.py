"""What a text has in it that should stay on this machine: kinds of things, never the things themselves.

Formats are found, and checksums computed where a format has one. Names of people, diagnoses and everything else that
has no format go unnoticed: mark such requests, or list the words.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from mlx_integrations.errors import ConfigurationError

__all__ = ["DESCRIPTIONS", "Detector", "make_detectors"]

Detector = Callable[[str], bool]
"""Whether there is at least one in a text."""

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "card": "a credit card number",
    "email": "an email address",
    "iban": "a bank account number",
    "ip": "an IP address",
    "phone": "a phone number",
    "secret": "a key or password",
}

# Each pattern begins with characters that are rare in prose, and bounds its repetitions: a text of any shape is read
# in time proportional to its length.
_EMAIL = re.compile(r"(?<=[\w.+%'-])@(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,24}(?![\w-])")

_DIGITS = re.compile(r"\d(?:[ -]?\d){11,}")
_CARD_LENGTHS: Final = (
    (re.compile(r"4"), (13, 16, 19)),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"6011|64[4-9]|65"), (16, 17, 18, 19)),  # Discover
    (re.compile(r"30[0-5]|36|38|39"), (14, 16)),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # JCB
    (re.compile(r"62"), (16, 17, 18, 19)),  # UnionPay
    (re.compile(r"50|5[6-8]|6[03789]"), (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
)
"""Prefixes and lengths of card numbers: ISO/IEC 7812, as listed at
https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)."""

_IBAN = re.compile(r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,40}")
_IBAN_LENGTHS: Final = {
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
        "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}
"""Lengths by country: https://www.swift.com/standards/data-standards/iban-international-bank-account-number."""

_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")

_PHONES: Final = (
    re.compile(r"\+\d(?:[ ().\-/]{0,2}\d){6,14}(?![\d])"),
    re.compile(r"\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"),
    re.compile(r"0\d{1,4}[ /]\d{2,4}(?:[ -]?\d{2,4}){1,3}(?![\w:.,-]?\d)"),
)
"""Numbers with a country's code, American ones, and national ones with a zero in front and a space after the area."""

_SECRETS: Final = (
    # Those who make them say what they begin with, so that they can be found:
    # https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns,
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    ("PRIVATE KEY", re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY")),
    ("sk-", re.compile(r"sk-[A-Za-z0-9_-]{20}")),  # OpenAI, Anthropic, OpenRouter
    ("AKIA", re.compile(r"AKIA[0-9A-Z]{16}")),
    ("ASIA", re.compile(r"ASIA[0-9A-Z]{16}")),
    ("gh", re.compile(r"gh[pousr]_[A-Za-z0-9]{36}")),
    ("github_pat_", re.compile(r"github_pat_\w{22}")),
    ("glpat-", re.compile(r"glpat-[\w-]{20}")),
    ("xox", re.compile(r"xox[abeoprs]-[\w-]{10}")),  # Slack
    ("AIza", re.compile(r"AIza[\w-]{35}")),  # Google
    ("hf_", re.compile(r"hf_[A-Za-z0-9]{30}")),  # Hugging Face
    ("k_", re.compile(r"[sr]k_(?:live|test)_[A-Za-z0-9]{16}")),  # Stripe
    ("lsv2_", re.compile(r"lsv2_[ps][tk]_[0-9a-f]{32}")),  # LangSmith
    ("npm_", re.compile(r"npm_[A-Za-z0-9]{36}")),
    ("pypi-", re.compile(r"pypi-[\w-]{50}")),
    ("SG.", re.compile(r"SG\.[\w-]{22}\.[\w-]{43}")),  # SendGrid
    ("eyJ", re.compile(r"eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{10}")),  # signed tokens, RFC 7519
    ("://", re.compile(r"://[^/\s:@'\"]{1,128}:[^/\s@'\"]{3,256}@")),  # a password in an address
)
_ASSIGNED = re.compile(
    r"(?:api[ _-]?key|access[ _-]?key|secret|token|passwor[dt]|passwd|pwd|passphrase)[\"']?\s{0,4}(?:=|:|\bis\b)\s{0,4}"
    r"[\"']?(?=[^\s\"',;(){}]{0,128}\d)[^\s\"',;(){}]{8}"
)
"""Such as `password: ...`: at least eight characters, and a digit among them."""


def make_detectors(names: Iterable[str], words: Iterable[str], patterns: Iterable[str]) -> dict[str, Detector]:
    """What is looked for, by how it is called in reasons.

    Args:
        names: Names of `DESCRIPTIONS`.
        words: The user's own words; whole words, whatever their case.
        patterns: The user's own regular expressions.

    Raises:
        ConfigurationError: A pattern is none.
    """
    made = {DESCRIPTIONS[name]: _FINDERS[name] for name in names}
    if wanted := [re.escape(word.strip()) for word in words if word.strip()]:
        listed = re.compile(rf"(?<!\w)(?:{'|'.join(wanted)})(?!\w)", re.IGNORECASE)
        made["a word of your list"] = lambda text: listed.search(text) is not None
    for number, pattern in enumerate(patterns, 1):
        made[f"what your pattern {number} looks for"] = _own(pattern, number)
    return made


def _own(pattern: str, number: int) -> Detector:
    try:
        compiled = re.compile(pattern)
    except re.error as exc:
        raise ConfigurationError(
            f"Pattern {number} of `private_patterns` is no regular expression: {exc}.",
            hint="See https://docs.python.org/3/library/re.html; a backslash is written twice in TOML's double quotes.",
        ) from exc
    return lambda text: compiled.search(text) is not None


def _has_email(text: str) -> bool:
    return "@" in text and _EMAIL.search(text) is not None


def _has_card(text: str) -> bool:
    return any(_holds_card(match[0]) for match in _DIGITS.finditer(text))


def _holds_card(run: str) -> bool:
    """Whether some of the groups of a row of digits are a card number together."""
    # Digits of any script become ASCII ones.
    groups = "".join(str(int(digit)) if digit.isdigit() else " " for digit in run).split()
    return any(_begins_card(groups[start : start + 19]) for start in range(len(groups)))


def _begins_card(groups: list[str]) -> bool:
    number = "".join(groups[:4])[:4]
    lengths = {length for prefix, lengths in _CARD_LENGTHS if prefix.match(number) for length in lengths}
    if not lengths:
        return False
    number = ""
    for group in groups:
        number += group
        if len(number) in lengths and _has_check_digit(number):
            return True
    return False


def _has_check_digit(number: str) -> bool:
    # ISO/IEC 7812-1, annex B: every second digit from the right counts twice, by the sum of its digits.
    doubled = [int(digit) * 2 for digit in number[-2::-2]]
    total = sum(int(digit) for digit in number[-1::-2]) + sum(value - 9 if value > 9 else value for value in doubled)
    return total % 10 == 0


def _has_iban(text: str) -> bool:
    return any(_is_iban(match[0]) for match in _IBAN.finditer(text))


def _is_iban(found: str) -> bool:
    number = found.replace(" ", "").upper()
    length = _IBAN_LENGTHS.get(number[:2])
    if length is None or len(number) < length or not number.isascii():
        return False
    # ISO 13616: the first four characters to the end, letters as numbers from 10; the rest of a division by 97 is 1.
    digits = "".join(str(int(character, 36)) for character in number[4:length] + number[:4])
    return int(digits) % 97 == 1


def _has_ip(text: str) -> bool:
    for match in _IPV4.finditer(text):
        before = text[match.start() - 1 : match.start()]
        if not (before.isalnum() or before in (".", "_")) and _is_address(match[0]):
            return True
    if "::" in text or text.count(":") > 6:
        return any(_is_address(match[0]) for match in _IPV6.finditer(text))
    return False


def _is_address(found: str) -> bool:
    """Whether it is the address of some machine, and not of every machine."""
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _has_phone(text: str) -> bool:
    return any(_is_phone(text, match) for pattern in _PHONES for match in pattern.finditer(text))


def _is_phone(text: str, match: re.Match[str]) -> bool:
    before = text[match.start() - 1 : match.start()]
    digits = sum(character.isdigit() for character in match[0])
    return 9 - match[0].startswith("+") <= digits <= 15 and not (before.isalnum() or before in ("-", ".", "_", "+"))


def _has_secret(text: str) -> bool:
    if any(needle in text and pattern.search(text) for needle, pattern in _SECRETS):
        return True
    lowered = text.lower()
    return any(word in lowered for word in _ASSIGNED_WORDS) and _ASSIGNED.search(lowered) is not None


_ASSIGNED_WORDS: Final = ("key", "secret", "token", "passw", "pwd", "passphrase")
_FINDERS: Final[Mapping[str, Detector]] = {
    "card": _has_card,
    "email": _has_email,
    "iban": _has_iban,
    "ip": _has_ip,
    "phone": _has_phone,
    "secret": _has_secret,
}
