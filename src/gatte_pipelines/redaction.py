"""Masks personal values and secrets in text that is about to be logged, printed or stored.

The last line of defence, not the first: a name cannot be told from a word, so code that logs or
raises must still leave personal values out. Attaching this to logging belongs to
``logging_setup``, turning exceptions into safe ones to ``safe_errors``.

Every pattern is linear: each either starts at a literal, is bounded, or cannot give back what it
took (possessive ``++``), because a log line may hold 3 MB of somebody's webhook.
"""

from __future__ import annotations

import re
from urllib.parse import quote

# Not square brackets: rich would take them for markup and print nothing.
EMAIL, PHONE, WAMID, BSUID = "<email>", "<phone>", "<wamid>", "<bsuid>"
CPF, CNPJ, SECRET, DETAIL, QUERY = "<cpf>", "<cnpj>", "<secret>", "<detail>", "<query>"
_MASKS = (EMAIL, PHONE, WAMID, BSUID, CPF, CNPJ, SECRET, DETAIL, QUERY)

# Fewer digits are counts, sizes and line numbers: masking those would make logs useless.
MIN_PHONE_DIGITS = 8
# A shorter "secret" is an ordinary word in some line, and masking it would hide the line.
MIN_SECRET_CHARACTERS = 6
# A mask changes what stands around its neighbours, so masking is repeated until nothing changes:
# two rounds as a rule, three for values glued together. The bound keeps the time linear.
MAX_ROUNDS = 8

# --- 1. secrets, and what PostgreSQL, SQLAlchemy and decoders quote from the data ---------------

_URL = re.compile(r"://[^\s'\"]++")
# What stands behind the colon is a password and not a port, wherever an @ follows.
_URL_USER = re.compile(r"://[^/:@]*+:(?!\d{1,5}(?:[/?#]|$))")

# Where the quoted data ends. The same marks also stand after a literal backslash-n, as in a repr.
_END_OF_DATA = (
    r"(?=(?:\n|\\n)[ \t]{0,8}(?:HINT|CONTEXT|STATEMENT|QUERY|LOCATION|WHERE)\s?:"
    r"|(?:\n|\\n)(?:\[SQL|\[parameters|\(Background|Traceback|The above|During handling|  File )"
    r"|\Z)"
)
_QUOTED_DATA = re.compile(
    r"(?P<before>"
    r"DETAIL\s?:[ \t]{0,4}"
    r"|Failing row contains "
    r"|Key \([^()\n]{1,200}\)="
    r"|COPY [^\n,]{1,130}, line \d{1,12}(?:, column [^\n:]{1,130})?: "
    r"|JSON data, line \d{1,12}: "
    r"|invalid (?:input (?:syntax|value)|byte sequence) for [^\n:]{1,130}: "
    r"|malformed \w{1,20} literal: "
    r"|invalid literal for \w{1,20}\(\) with base \d{1,2}: "
    r"|could not convert string to \w{1,20}: "
    r"|Invalid isoformat string: "
    r"|out of range: "
    r")[\s\S]*?" + _END_OF_DATA
)
_PARAMETERS = re.compile(r"\[parameters: [^\n]*")
_INPUT_VALUE = re.compile(r"input_value=[^\n]*?(?=, input_type=|$)", re.MULTILINE)

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
)
_NAMED_SECRET = re.compile(
    r"(?P<before>(?:(?i:password|passwd|pwd|senha|secret|token|api[-_]?key|private_key"
    r"|authorization)|_KEY)\\{0,3}[\"']?[ \t]{0,2}[=:][ \t]{0,2}(?:(?i:bearer|basic)[ \t]{1,2})?)"
    r"(?:\\{0,3}\"[^\"\n]*+\"?+|\\{0,3}'[^'\n]*+'?+|[^\s&,;\"'\])}])[^\s&,;\"'\])}]*+"
)
_BEARER = re.compile(
    r"(?P<before>(?i:bearer|basic)[ \t]{1,2})"
    r"(?=[A-Za-z._~+/=-]{0,64}[0-9]|[A-Za-z._~+/=-]{20})[A-Za-z0-9._~+/=-]{8,}+"
)
# Meta's access tokens, Google's access tokens and API keys, JSON web tokens.
_VENDOR_TOKEN = re.compile(
    r"EAA[A-Za-z0-9]{20,}+|ya29\.[\w-]{10,}+|AIza[\w-]{30,}+"
    r"|eyJ(?:(?!eyJ)[\w-]){7,}+\.[\w-]{4,}+(?:\.[\w-]*+)?"
)

# --- 2. e-mail addresses ------------------------------------------------------------------------

# Before everything that knows digits, so that a number in front of the @ goes with it. The look
# behind is what makes it linear: a run of letters is tried from its first letter only.
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++(?:@|%40)(?=[\w.-]{0,253}\.[^\W\d_]{2})[\w.+-]++")

# --- 3. numbers and identifiers, among those that must stay readable ----------------------------

_ISO_DATE = r"\d{4}-[01]\d-[0-3]\d(?!\d)"
_UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Fa-f-])"
# Four or five digits, a dot and four digits are a phone: see _DOTTED.
_DECIMAL = r"(?!\d{4,5}\.\d{4}(?!\d)|\d\d\.9\d{8}(?!\d))\d{1,7}\.\d{1,18}(?!\d|[.-][0-9A-Z])"
_TIME = r"\d{1,2}:[0-5]\d(?:(?::[0-6]\d)(?:[.,]\d{1,9})?)?(?!\d)"
_IPV4 = r"(?:\d{1,3}\.){3}\d{1,3}(?!\d|[.-]\d)"
_CPF = r"\d{3}\.\d{3}\.\d{3}-\d{2}"
_CNPJ = r"[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-[0-9]{2}"
_DOTTED = r"\(?\d{2,3}\)?\.\d{4,5}\.\d{4}(?!\d)|\d{2,3}\.\d{4,5}-\d{4}(?!\d)|\d\d\.9\d{8}(?!\d)"
_DIGEST = r"(?=[0-9]{0,63}[a-f])(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9A-Za-z])"
# What a run of digits must not swallow though only a space stands between: swallowed, it would
# be judged by the digits that it lends to the run.
_NOT_PART = (
    rf"(?!{_ISO_DATE}|{_UUID}|{_DECIMAL}|{_TIME}|{_IPV4}|{_CPF}|{_CNPJ}|{_DOTTED}|{_DIGEST})"
)
# Spaces, brackets and dashes as people and spreadsheets write them, no-break ones included.
_GAP = "[ \\t\u00a0\u202f()\\-\u2010-\u2013]"
_IDENTIFIERS = re.compile(
    r"(?P<kept>"
    rf"(?<![0-9A-Fa-f]){_UUID}"
    rf"|(?<!\d){_ISO_DATE}(?:(?:[T ][0-2]\d:[0-5]\d(?::[0-6]\d)?|T[0-2]\d-?[0-5]\d(?:-?[0-6]\d)?)"
    r"(?:[.,]\d{1,9})?(?:Z|[+-][01]\d:?[0-5]\d)?(?!\d))?"
    r"|(?<!\d)20\d{6}T\d{4}(?:\d\d)?Z?(?!\d)"
    rf"|(?<![\d:]){_TIME}"
    rf"|(?<![0-9A-Za-z]){_DIGEST}"
    r"|~[bx][a-z2-7]{18}(?![a-z2-7])"
    rf"|(?<![\d.]){_DECIMAL}"
    rf"|(?<![\d.]){_IPV4}"
    r")"
    # A range that rises, as of lines or rows; no phone ends in five digits behind a dash.
    rf"|(?<!\d)(?P<low>\d{{5,7}})-(?P<high>\d{{5,7}})(?!-|\d|{_GAP}{{1,3}}\d)"
    # HBg is the base64 of the bytes that every known wamid begins with.
    r"|(?P<wamid>(?i:wamid)\.[A-Za-z0-9+/=_-]++|HBg[A-Za-z0-9+/_-]{16,}+=*+)"
    r"|(?P<bsuid>[A-Z]{2}\.(?:ENT\.)?(?=[A-Za-z]{0,15}[0-9]|[A-Za-z]{16})[A-Za-z0-9]{6,}+)"
    rf"|(?P<cnpj>{_CNPJ})"
    rf"|(?P<cpf>{_CPF})"
    rf"|(?P<dotted>{_DOTTED})"
    rf"|(?P<plus>\+{_GAP}{{0,2}}\d(?:\d|(?:\.|{_GAP}{{1,3}}){_NOT_PART}\d)*+)"
    rf"|(?P<digits>\(?\d(?:\d|{_GAP}{{1,3}}{_NOT_PART}\d)*+(?:\.\d{{4}}(?!\d))?)"
)
# Last, when what stands around it has its final form.
_PLAIN_CNPJ = re.compile(r"(?<![0-9A-Za-z])(?=[0-9]{0,11}[A-Z])[0-9A-Z]{12}[0-9]{2}(?![0-9A-Za-z])")

_secrets: frozenset[str] = frozenset()
_secret_pattern: re.Pattern[str] | None = None


def redact(text: str) -> str:
    """Mask what must not be seen in a text; ordinary log lines stay as they are.

    Masked: registered secrets, tokens, keys and passwords (also in URLs), queries of http URLs,
    the data that PostgreSQL, SQLAlchemy and decoders quote in their messages, e-mail addresses,
    phone numbers (8 digits and more, however grouped), CPF, CNPJ (also the alphanumeric ones),
    WhatsApp message ids and business-scoped user ids.

    Kept: UUIDs, timestamps, digests, decimals, IP addresses, ports, counts of up to 7 digits, and
    the placeholders of ``users.phone``.

    Pure and linear in the length of the text; ``redact(redact(x)) == redact(x)``.
    """
    for _ in range(MAX_ROUNDS):
        masked = _mask_once(text)
        if masked == text:
            break
        text = masked
    return text


def register_secret(value: str) -> None:
    """Have an exact string masked everywhere from now on, also in its percent-encoded form.

    Values of fewer than 6 characters are not registered: they are ordinary words elsewhere.
    """
    global _secrets, _secret_pattern  # noqa: PLW0603 - one list of secrets a process
    if len(value) < MIN_SECRET_CHARACTERS:
        return
    _secrets = _secrets | {value, quote(value, safe="")}
    longest_first = sorted(_secrets, key=lambda secret: (-len(secret), secret))
    alternatives = [*_MASKS, *longest_first]
    _secret_pattern = re.compile("|".join(map(re.escape, alternatives)))


def forget_secrets() -> None:
    """Empty the list of registered secrets (tests)."""
    global _secrets, _secret_pattern
    _secrets, _secret_pattern = frozenset(), None


def _mask_once(text: str) -> str:
    if _secret_pattern is not None:
        text = _secret_pattern.sub(_mask_unless_masked, text)
    text = _PRIVATE_KEY.sub(SECRET, text)
    text = _URL.sub(_mask_url, text)
    text = _QUOTED_DATA.sub(rf"\g<before>{DETAIL}", text)
    text = _PARAMETERS.sub(f"[parameters: {DETAIL}]", text)
    text = _INPUT_VALUE.sub(f"input_value={DETAIL}", text)
    text = _NAMED_SECRET.sub(rf"\g<before>{SECRET}", text)
    text = _BEARER.sub(rf"\g<before>{SECRET}", text)
    text = _VENDOR_TOKEN.sub(SECRET, text)
    text = _EMAIL.sub(EMAIL, text)
    text = _IDENTIFIERS.sub(_mask_identifier, text)
    return _PLAIN_CNPJ.sub(_mask_cnpj, text)


def _mask_unless_masked(found: re.Match[str]) -> str:
    return found[0] if found[0] in _MASKS else SECRET


def _mask_url(found: re.Match[str]) -> str:
    """Mask the password of any URL and the query of a http one."""
    text = found[0]
    user = _URL_USER.search(text)
    at = text.rfind("@")
    if user is not None and at > user.end():
        text = f"{text[: user.end()]}{SECRET}{text[at:]}"
    scheme = found.string[max(0, found.start() - len("https")) : found.start()].lower()
    http = 0 if scheme.endswith(("http", "https")) else text.lower().find("http")
    query = text.find("?", http) if http >= 0 else -1
    return text if query < 0 else f"{text[: query + 1]}{QUERY}"


def _mask_identifier(found: re.Match[str]) -> str:
    text = found[0]
    if found["kept"] is not None:
        return text
    if found["low"] is not None:
        return text if int(found["low"]) < int(found["high"]) else PHONE
    if found["wamid"] is not None:
        return WAMID
    if found["bsuid"] is not None:
        return BSUID
    if found["cnpj"] is not None:
        return CNPJ
    if found["cpf"] is not None:
        return CPF
    return _mask_number(text)


def _mask_cnpj(found: re.Match[str]) -> str:
    return CNPJ if _has_cnpj_check_digits(found[0]) else found[0]


def _mask_number(text: str) -> str:
    """Mask a run of digits that is long enough to be somebody's number."""
    digits = sum(letter.isdigit() for letter in text)
    # users.phone allows seven digits behind a plus sign.
    if digits < MIN_PHONE_DIGITS - (text[0] == "+"):
        return text
    return f"({PHONE}" if text[0] == "(" and ")" not in text else PHONE


def _has_cnpj_check_digits(text: str) -> bool:
    """Whether 14 characters are a CNPJ, digits or alphanumeric.

    Source: Receita Federal, IN RFB 2.229/2024: a character counts as its ASCII code less 48.
    """
    values = [ord(letter) - ord("0") for letter in text]
    for position in (12, 13):
        weights = [2 + (position - 1 - index) % 8 for index in range(position)]
        rest = sum(map(int.__mul__, values[:position], weights)) % 11
        if values[position] != (0 if rest < 2 else 11 - rest):
            return False
    return True
