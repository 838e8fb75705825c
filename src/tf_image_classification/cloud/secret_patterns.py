"""Patterns of keys and tokens, to find secrets in the content of files.

    found = find_secret(data)       # Secret("a private key", line=3), or None

Every pattern is a format that its issuer documents or that its tools write, so that ordinary code
and data do not match. A password without a format, as in ``password = "swordfish"``, is not found.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Secret:
    """A key or token; its text is not kept.

    Attributes:
        kind: its kind, with an article.
        line: where it begins, from 1.
    """

    kind: str
    line: int


@dataclasses.dataclass(frozen=True)
class _Pattern:
    """The pattern of one kind.

    Attributes:
        kind: its kind, with an article.
        hints: byte strings, one of which is in every match; searched first, for speed.
        pattern: the format.
        holds: whether a match is a secret; by default every match is.
    """

    kind: str
    hints: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    holds: Callable[[bytes], bool] = lambda match: True


def _pattern(
    kind: str, hints: str, pattern: str, holds: Callable[[bytes], bool] = lambda match: True
) -> _Pattern:
    return _Pattern(
        kind,
        tuple(hint.encode("latin-1") for hint in hints.split()),
        re.compile(pattern.encode("latin-1"), re.MULTILINE),
        holds,
    )


def _is_key_in_base64(match: bytes) -> bool:
    try:
        start = base64.b64decode(match[: len(match) // 4 * 4])
    except binascii.Error:
        return False
    return b"PRIVATE KEY" in start


def _is_random(match: bytes) -> bool:
    """Whether an assigned value has digits and letters, like a key."""
    value = match.rpartition(b"=")[2]
    return re.search(rb"\d", value) is not None and re.search(rb"[A-Za-z]", value) is not None


_WORD = r"(?<![A-Za-z0-9_-])"
_END = r"(?![A-Za-z0-9_-])"
_PATTERNS = (
    _pattern(
        "a private key",
        "PRIVATE PuTTY-User-Key-File AGE-SECRET-KEY-1",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|^PuTTY-User-Key-File-\d"
        r"|AGE-SECRET-KEY-1[0-9A-Z]{20}",
    ),
    _pattern(
        "a private key in base64",
        "LS0tLS1CRUdJTi",
        r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{10,60}",
        _is_key_in_base64,
    ),
    _pattern(  # PKCS #8 with the identifiers of RSA and of elliptic curves; PKCS #12; Java's stores
        "a private key in binary form",
        "\x30 \xfe\xed\xfe\xed \xce\xce\xce\xce",
        r"\A\x30\x82[\s\S]{2}\x02\x01(\x00\x30[\s\S]\x06[\x07\x09]\x2a\x86\x48|\x03\x30)"
        r"|\A\x30\x81[\s\S]\x02\x01\x00\x30[\s\S]\x06\x07\x2a\x86\x48"
        r"|\A(\xfe\xed\xfe\xed|\xce\xce\xce\xce)\x00\x00\x00[\x01\x02]",
    ),
    _pattern(
        "a Google account's key or token",
        "private_key refresh_token client_secret service_account ya29. GOCSPX- AIza",
        r'"(private_key|refresh_token|client_secret)"\s*:\s*"[^"]|"type"\s*:\s*"service_account"'
        rf"|{_WORD}(ya29\.[\w-]{{20,}}|GOCSPX-[\w-]{{20,}}|AIza[\w-]{{35}}){_END}",
    ),
    _pattern(
        "an AWS access key",
        "AKIA ASIA aws_secret_access_key",
        rf"{_WORD}(AKIA|ASIA)[A-Z0-9]{{16}}{_END}|aws_secret_access_key\W{{1,6}}[A-Za-z0-9/+]{{40}}",
    ),
    _pattern("an Azure account key", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    _pattern(
        "a token of GitHub or GitLab",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat-",
        rf"{_WORD}(gh[pousr]_[A-Za-z0-9]{{36,}}|github_pat_\w{{22,}}|glpat-[\w-]{{20,}})",
    ),
    _pattern(
        "a token of Hugging Face, OpenAI or Anthropic",
        "hf_ sk-",
        rf"{_WORD}(hf_[A-Za-z0-9]{{34,}}|sk-(proj-|ant-)?[\w-]{{32,}}){_END}",
        lambda match: re.search(rb"\d", match) is not None,
    ),
    _pattern(
        "a token of Slack, Stripe, npm or PyPI",
        "xox hooks.slack.com _live_ npm_ pypi-AgE _authToken=",
        rf"{_WORD}(xox[abeoprs]-[\w-]{{10,}}|[sr]k_live_\w{{16,}}|npm_[A-Za-z0-9]{{36}}|"
        r"pypi-AgE[\w-]{16,})|hooks\.slack\.com/services/T\w+/B\w+/\w+|_authToken=[\w-]{16,}",
    ),
    _pattern(
        "a signed web token", "eyJ", rf"{_WORD}eyJ[\w-]{{10,}}\.eyJ[\w-]{{10,}}\.[\w-]{{16,}}"
    ),
    _pattern(
        "the credentials of a cluster or registry",
        "client-key-data auths",
        r'client-key-data:\s*[A-Za-z0-9+/]{16}|"auths"\s*:\s*\{\s*"[^"]+"\s*:\s*\{\s*"auth"\s*:\s*"[^"]',
    ),
    _pattern(
        "a password of .netrc's form",
        "password",
        r"\b(machine\s+\S+|default)\s+login\s+\S+\s+password\s+\S+",
    ),
    _pattern(
        "an address with a password",
        "://",
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'`{}<>$*]{1,60}:[^\s/:@\"'`{}<>$*]{3,100}@[\w.-]",
    ),
    _pattern(
        "a secret assigned to a variable",
        "SECRET TOKEN PASSWORD PASSWD API_KEY APIKEY ACCESS_KEY",
        r"\b[A-Z][A-Z0-9_]*(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)[A-Z0-9_]*"
        r"[ \t]*=[ \t]*[\"']?[A-Za-z0-9+/_=-]{16,}",
        _is_random,
    ),
)

KINDS = tuple(each.kind for each in _PATTERNS)
"""All kinds, for the documentation."""


def find_secret(data: bytes) -> Secret | None:
    r"""The first key or token in a file's content, also in UTF-16 text; or None.

    Example:
        >>> find_secret(b"user = me\naws_secret_access_key = " + b"x" * 40)
        Secret(kind='an AWS access key', line=2)
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", "replace").encode()
    found = []
    for each in _PATTERNS:
        if not any(hint in data for hint in each.hints):
            continue
        for match in each.pattern.finditer(data):
            if each.holds(match[0]):
                found.append((match.start(), each.kind))
                break
    if not found:
        return None
    start, kind = min(found)
    return Secret(kind, data.count(b"\n", 0, start) + 1)
