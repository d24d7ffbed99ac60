"""Personal data: e-mail and network addresses, telephone, bank card and identity card numbers, listed names. [text]

What counts, and what looks alike and does not:

- Numbers are looked for between signs that are no digits and no Latin letters, so that `手机13812345678谢谢` is
  found, and part of a longer number, of an identifier or of a decimal fraction is not.
- Telephone: `+` or `00` with an existing country code; a Chinese mobile number; numbers that begin with 0, as in China
  and Europe, in groups or with 11 digits; North American numbers in groups. Seven digits
  alone, dates, ranges of years, ISBN and prices are none.
- Identity card: 18 signs with a province, a date of birth and the right check sign (GB 11643-1999, ISO 7064
  MOD 11-2). The form of 15 digits, which ended in 2013 and has no check sign, only where it is asked for.
- Bank card: 13 to 19 digits of an issuer's range with the right check digit (Luhn; ISO/IEC 7812-1).
- IPv4: four numbers up to 255. It is a version number, and stays, where all four are below 10 (`1.2.3.4`; the
  addresses of this kind are public servers) or `v`, `version`, `版本` or the like stands before it. IPv6: what the
  ipaddress module reads. Private and local addresses are nobody's in particular and stay unless asked for.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from langmill.core.config import Settings
from langmill.core.errors import ConfigError
from langmill.text.steps import Outcome

KINDS = ("e-mail", "phone", "identity card", "bank card", "network address", "name")
_LABELS = dict(zip(KINDS, ("EMAIL", "PHONE", "ID", "CARD", "IP", "NAME")))

REASONS: dict[str, str] = {
    "private: e-mail": "holds an e-mail address",
    "private: phone": "holds a telephone number",
    "private: identity card": "holds the number of a Chinese identity card",
    "private: bank card": "holds the number of a bank card",
    "private: network address": "holds an IP address",
    "private: name": "holds a name of the list",
}


class PrivacySettings(Settings):
    """What counts as personal data."""

    kinds: str = ",".join(KINDS)
    """What is looked for, joined by commas."""
    placeholder: str = "<{kind}>"
    """What stands in its place; {kind} becomes EMAIL, PHONE, ID, CARD, IP or NAME."""
    addresses: Literal["public", "all"] = "public"
    """Network addresses: public ones only, or those of private networks and of the machine itself too."""
    old_identity_cards: bool = Field(False)
    """Look for identity numbers of 15 digits too, which have no check sign: some other numbers will be hit."""
    names: str = ""
    """A UTF-8 file with one name a line."""

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: str) -> str:
        for kind in value.split(","):
            if kind.strip() not in KINDS:
                raise ValueError(f"{kind.strip()!r} is none of {', '.join(KINDS)}")
        return value


# --------------------------------------------------------------------------------------------------- e-mail

_DOMAIN = re.compile(
    r"@(?=[A-Za-z0-9])(?:[A-Za-z0-9-]{1,63}\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59})(?![A-Za-z0-9-])"
)
_LOCAL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+%'-]{0,62}[A-Za-z0-9_+-])?\Z")


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of e-mail addresses.

    >>> [text[a:b] for text in ["写信到zhang.san@mail.example.cn谢谢"] for a, b in find_emails(text)]
    ['zhang.san@mail.example.cn']
    """
    end = 0
    for domain in _DOMAIN.finditer(text):
        # An e-mail's first part has at most 64 characters (RFC 5321, section 4.5.3.1.1).
        local = _LOCAL.search(text, max(end, domain.start() - 64), domain.start())
        if local:
            end = domain.end()
            yield local.start(), end


# ----------------------------------------------------------------------------------------------------- numbers

# Seven digits or more with at most two signs between any two of them: only there is a number looked for.
_REGION = re.compile(r"[0-9](?:[ \u00a0.\-()（）/]{0,2}[0-9]){6,}")
_REGION_BEFORE, _REGION_AFTER = 4, 8  # what may belong to a number before its first digit and after its last
_NOT_AFTER = r"(?<![0-9A-Za-z])(?<![0-9][.\-_])"
_NOT_BEFORE = r"(?![0-9A-Za-z_])(?![.\-][0-9])"

_IDENTITY_CARD = re.compile(
    rf"{_NOT_AFTER}[1-8][0-9]{{5}}( ?)(?:19|20)[0-9]{{6}}\1[0-9]{{3}}[0-9Xx]{_NOT_BEFORE}"
)
_OLD_IDENTITY_CARD = re.compile(rf"{_NOT_AFTER}[1-8][0-9]{{14}}{_NOT_BEFORE}")
_PROVINCES = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split()
)
_BANK_CARD = re.compile(
    rf"""{_NOT_AFTER}(?:
    [2-6][0-9]{{12,18}}
    | [2-6][0-9]{{3}}([ -])[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{1,4}}(?:\1[0-9]{{1,3}})?
    | 3[0-9]{{3}}([ -])[0-9]{{6}}\2[0-9]{{4,5}}
    | 62[0-9]{{4}}[ -][0-9]{{10,13}}
    ){_NOT_BEFORE}""",
    re.VERBOSE,
)
# Ranges of issuers and the lengths of their numbers: Visa, Mastercard, American Express, Diners, Discover, JCB,
# UnionPay, Maestro.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}"
)
_COUNTRY = (
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-69][0-9]|3[578][0-9]|42[0-9]|5[09][0-9]|6[7-9][0-9]|8[05-8][0-9]|9[679][0-9])"
)
_PHONE = re.compile(
    rf"""{_NOT_AFTER}(?:
    (?:\+|\(\+|00)?\(?(?:86\)?[ -]?)?1[3-9][0-9](?:([ -]?)[0-9]{{4}}\1[0-9]{{4}}|[0-9][ -][0-9]{{3}}[ -][0-9]{{4}})
    | \+1[ .-]?\(?[2-9][0-9]{{2}}\)?[ .-]?[2-9][0-9]{{2}}[ .-]?[0-9]{{4}}
    | \+(?!1){_COUNTRY}(?:[ .\-/]{{0,2}}\(?[0-9]\)?){{6,12}}
    | 00{_COUNTRY}[ -](?:[ .\-/]?[0-9]){{6,12}}
    | (?:1[-.\ ])?(?:\([2-9][0-9]{{2}}\)[ -]?|[2-9][0-9]{{2}}[-.])[2-9][0-9]{{2}}[-.][0-9]{{4}}
    | [48]00-[0-9]{{3,4}}-[0-9]{{3,4}}
    | (?:[(（]0(?:10|2[0-9]|[3-9][0-9]{{2}})[)）][ -]?|0(?:10|2[0-9]|[3-9][0-9]{{2}})[ -])[2-9][0-9]{{2,3}}[ -]?[0-9]{{4}}(?:[-转][0-9]{{1,6}})?
    | \(0[1-9][0-9]{{0,4}}\)[ ]?[0-9]{{2,8}}(?:([ -])[0-9]{{2,4}}(?:\2[0-9]{{2,4}})*)?
    | 0[1-9][0-9]{{0,4}}[ \-/.][0-9]{{2,8}}(?:([ -.])[0-9]{{2,4}}(?:\3[0-9]{{2,4}}){{0,3}})?
    | 0[1-9][0-9]{{9}}
    ){_NOT_BEFORE}""",
    re.VERBOSE,
)
_DATE = re.compile(r"0?[1-9][.\-/ ][0-3]?[0-9][.\-/ ](?:19|20)[0-9]{2}")
_MIN_PHONE_DIGITS = 9
_NEAR = 8  # so many hits may reach into the next one
_NO_DIGIT = re.compile("[^0-9Xx]")


def is_identity_number(number: str) -> bool:
    """Return whether 18 signs are the number of a Chinese identity card (GB 11643-1999), or 15 of an old one.

    >>> is_identity_number("11010519491231002X"), is_identity_number("110105194912310021")
    (True, False)
    """
    if number[:2] not in _PROVINCES:
        return False
    birth = number[6:14] if len(number) == 18 else f"19{number[6:12]}"
    try:
        born = datetime.date(int(birth[:4]), int(birth[4:6]), int(birth[6:]))
    except ValueError:
        return False
    if len(number) == 15:
        return True
    weighted = sum(int(sign) * pow(2, 17 - i, 11) for i, sign in enumerate(number[:17]))
    return born.year >= 1900 and "10X98765432"[weighted % 11] == number[17].upper()


def is_card_number(digits: str) -> bool:
    """Return whether digits are the number of a bank card: an issuer's range, its length, Luhn's check digit.

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112")
    (True, False)
    """
    if not _ISSUERS.fullmatch(digits):
        return False
    doubled = (int(digit) * (2 - (len(digits) - i) % 2) for i, digit in enumerate(digits))
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _is_phone(number: str) -> bool:
    """Return whether what a number of groups that begins with 0 looks like is no date and long enough."""
    digits = sum(map(str.isdigit, number))
    return not number.lstrip("(（").startswith("0") or (
        digits >= _MIN_PHONE_DIGITS and not _DATE.match(number)
    )


_Check = Callable[[str], bool]


def find_numbers(
    text: str, patterns: Iterable[tuple[str, re.Pattern[str], _Check]]
) -> list[tuple[int, int, str]]:
    """Return begin, end and kind of what patterns find and their checks agree to; the first pattern goes first.

    A check is given digits (and X) alone, but for telephones all that stands there.
    """
    found: list[tuple[int, int, str]] = []
    for region in _REGION.finditer(text):
        begin, end = max(0, region.start() - _REGION_BEFORE), region.end() + _REGION_AFTER
        for kind, pattern, check in patterns:
            for match in pattern.finditer(text, begin, end):
                number = match[0] if kind == "phone" else _NO_DIGIT.sub("", match[0])
                if check(number) and not any(
                    match.start() < b and a < match.end() for a, b, _ in found[-_NEAR:]
                ):
                    found.append((*match.span(), kind))
    return found


# ------------------------------------------------------------------------------------------------- addresses

_IPV4 = re.compile(r"[0-9](?<![0-9A-Za-z_.\-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_])(?![.\-][0-9])")
_VERSION = re.compile(r"(?:\bv|version|ver\.?|release|build|版本|版|§)[号號 :：=]{0,3}\Z", re.IGNORECASE)
_VERSION_CHARACTERS = 16
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{2,39}(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z:])"
)
_IPV6_CHARACTERS = 45
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")


def find_addresses(text: str, *, public_only: bool = True) -> Iterator[tuple[int, int]]:
    """Yield begin and end of IPv4 and IPv6 addresses.

    >>> [text[a:b] for text in ["服务器93.184.216.34，版本10.2.3.4，本机127.0.0.1"] for a, b in find_addresses(text)]
    ['93.184.216.34']
    """
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            parts = list(map(int, match[0].split(".")))
            if (
                max(parts) > 255
                or max(parts) < 10
                or any(len(p) > 1 and p[0] == "0" for p in match[0].split("."))
            ):
                continue
            if _VERSION.search(text, max(0, match.start() - _VERSION_CHARACTERS), match.start()):
                continue
            if not public_only or ipaddress.IPv4Address(match[0]).is_global:
                yield match.span()
    end = 0
    for colons in _COLONS.finditer(text) if ":" in text else ():
        if colons.start() < end:
            continue
        begin = max(end, colons.start() - _IPV6_CHARACTERS)
        for match in _IPV6.finditer(text, begin, colons.end() + _IPV6_CHARACTERS):
            if match.start() > colons.start():
                break
            if match.end() >= colons.end() and _is_ipv6(match[0], public_only=public_only):
                end = match.end()
                yield match.span()


def _is_ipv6(written: str, *, public_only: bool) -> bool:
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return False
    # `a::b` and `::` are names in programs before they are addresses.
    if address in _PUBLIC_IPV6:
        return address.is_global or not public_only
    return not public_only and address.is_private and not address.is_unspecified


# ----------------------------------------------------------------------------------------------------- names


_WORD = "0-9A-Za-z\u00c0-\u024f"
_LATIN = re.compile(f"[{_WORD}]")
_MAX_NAME_CHARACTERS = 100


def read_names(path: str | Path) -> re.Pattern[str]:
    """Return a pattern of the names in a UTF-8 file, one a line; those in Latin letters are whole words.

    Raises ConfigError where the file cannot be read, has no name, or one of more than 100 characters.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--privacy.names: {path}: cannot be read as UTF-8 text ({error})") from error
    names = {line.strip() for line in lines if line.strip()}
    if not names or max(map(len, names)) > _MAX_NAME_CHARACTERS:
        raise ConfigError(
            f"--privacy.names: {path}: give one name a line, of {_MAX_NAME_CHARACTERS} characters at most"
        )
    latin = {name for name in names if _LATIN.match(name)}
    parts = []
    if latin:
        parts.append(f"(?<![{_WORD}]){_any_of(latin)}(?![{_WORD}])")
    if names > latin:
        parts.append(_any_of(names - latin))
    return re.compile("|".join(parts))


def _any_of(names: Iterable[str]) -> str:
    """Return a pattern of any of the names, the longest that stands there; common beginnings are looked at once."""
    branches: dict[str, set[str]] = {}
    for name in names:
        branches.setdefault(name[:1], set()).add(name[1:])
    optional = branches.pop("", None) is not None
    inner = "|".join(re.escape(first) + _any_of(rest) for first, rest in sorted(branches.items()))
    return f"(?:{inner}){'?' if optional else ''}" if inner else ""


# ------------------------------------------------------------------------------------------------------ step

_MAXIMUM_ROUNDS = 8


class Scrubber:
    """Step: puts a placeholder where personal data stands, or rejects the document; counts by kind.

    Scrubbing twice is the same as once.
    """

    name = "privacy"

    def __init__(self, settings: PrivacySettings, *, reject: bool = False) -> None:
        """Raises ConfigError where the file of names cannot be used."""
        self._kinds = {kind.strip() for kind in settings.kinds.split(",")}
        self._reject = reject
        self._placeholders = {
            kind: settings.placeholder.replace("{kind}", label) for kind, label in _LABELS.items()
        }
        self._public_only = settings.addresses == "public"
        patterns = (
            ("identity card", _IDENTITY_CARD, is_identity_number),
            ("identity card", _OLD_IDENTITY_CARD, is_identity_number),
            ("bank card", _BANK_CARD, is_card_number),
            ("phone", _PHONE, _is_phone),
        )
        self._numbers = [
            pattern
            for pattern in patterns
            if pattern[0] in self._kinds
            and (settings.old_identity_cards or pattern[1] is not _OLD_IDENTITY_CARD)
        ]
        self._names = read_names(settings.names) if settings.names and "name" in self._kinds else None

    def __call__(self, text: str) -> Outcome:
        counts: Counter[str] = Counter()
        # What stood close to a hit may be one once the hit is gone; a round that finds nothing ends it.
        for _ in range(_MAXIMUM_ROUNDS):
            found = self._find(text)
            if not found:
                break
            if self._reject:
                return Outcome(text, f"private: {found[0][2]}")
            pieces: list[str] = []
            end = 0
            for begin, after, kind in found:
                pieces += (text[end:begin], self._placeholders[kind])
                end = after
                counts[kind] += 1
            text = "".join((*pieces, text[end:]))
        return Outcome(text, "", counts)

    def _find(self, text: str) -> list[tuple[int, int, str]]:
        """Return begin, end and kind of what is to go, in order and apart; of two that overlap the first kind's."""
        found: list[tuple[int, int, str]] = []
        if "e-mail" in self._kinds and "@" in text:
            found += ((*span, "e-mail") for span in find_emails(text))
        if "network address" in self._kinds:
            found += (
                (*span, "network address") for span in find_addresses(text, public_only=self._public_only)
            )
        if self._numbers:
            found += find_numbers(text, self._numbers)
        if self._names:
            found += ((*match.span(), "name") for match in self._names.finditer(text))
        apart: list[tuple[int, int, str]] = []
        for begin, after, kind in sorted(found, key=lambda span: (span[0], KINDS.index(span[2]))):
            if not apart or begin >= apart[-1][1]:
                apart.append((begin, after, kind))
        return apart
