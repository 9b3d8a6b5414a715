"""Which parts of a text are secret, and what stands in their place?

Rule: nothing that leaves the process (log line, journal event, job metadata, report, error) carries
a credential. Two nets: the *shapes* that credentials have (user:password in a URL, signed query
parameters, bearer tokens, key files), and the *values* of this process's environment variables
whose names say that they are secret. What is found becomes ``***``; names stay readable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MASK = "***"
WITHOUT_CREDENTIALS = (
    "Leave it out of the URL and give it by the store's own environment variables (such as AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY) or configuration file; renew it, since a shell's history may hold it now"
)
"""What to do about a URL that holds a credential."""

_SECRET_WORDS = r"(?:secret|token|passw(?:or)?d|passphrase|api_?key|access_?key|account_?key|private_?key|credential|signature)"

_NAMES_BEFORE_AT = (
    "az",
    "abfs",
    "abfss",
    "wasb",
    "wasbs",
    "hdfs",
    "webhdfs",
    "sftp",
    "ssh",
    "ftp",
    "smb",
)
"""Schemes where a container or a user, neither of them secret, stands before the ``@``."""
_NO_CONTAINER = "".join(rf"(?<!\b{scheme}://)" for scheme in _NAMES_BEFORE_AT)
_SIGNED = r"(?i)([?&](?:x-amz-|x-goog-)?(?:sig|signature|credential|security-token|[a-z_-]*token|key)=)[^&\s'\"]+"

_SHAPES: tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...] = (
    # scheme://user:password@host; AWS secrets contain slashes, but HOST:PORT/path@x is no
    # credential
    (re.compile("@"), re.compile(r"(?<=://)[^/\s@:'\"]+:(?!\d+(?:/|$))[^\s@'\"]+(?=@)"), MASK),
    # scheme://token@host, but abfs://container@account
    (re.compile("@"), re.compile(rf"{_NO_CONTAINER}(?<=://)[^/\s@'\"]+(?=@)"), MASK),
    # signed URLs: AWS, Google, Azure SAS, and plain ?access_token=
    (re.compile(r"[?&]"), re.compile(_SIGNED), rf"\1{MASK}"),
    (
        re.compile("(?i)bearer|basic"),
        re.compile(r"(?i)\b(authorization\s*[:=]\s*(?:bearer|basic)\s+|bearer\s+)[\w.~+/=-]{8,}"),
        rf"\1{MASK}",
    ),
    # AccountKey=...; aws_secret_access_key: ..., "private_key": "..."; but the word behind an
    # exception's name (NoCredentialsError: Unable to locate) begins its text
    (
        re.compile(rf"(?i){_SECRET_WORDS}"),
        re.compile(
            rf"(?i)([\w-]*{_SECRET_WORDS}(?!\w*(?:error|exception):\s+[a-z]+\s)[\w-]*[\"']?\s*[=:]\s*[\"']?)(?!\*\*\*)[^\s\"',;&}}]{{6,}}"
        ),
        rf"\1{MASK}",
    ),
    (re.compile("AKIA|ASIA"), re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (
        re.compile("-----BEGIN "),
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        MASK,
    ),
)

"""What a shape has in it wherever it is found, the shape, and what takes its place. Most texts have
a ``:`` and nothing else of a credential: to look for each shape in each URL would take longer than a
request of a near store.
"""

_SUSPICIOUS = re.compile(r"(?i)[=:]|bearer|AKIA|ASIA|-----BEGIN")
"""What every shape has in it: most texts of a large report have none of these, and are told apart
by one look.
"""

_SECRET_NAME = re.compile(
    rf"(?i){_SECRET_WORDS}|^(?:AWS_ACCESS_KEY_ID|AZURE_STORAGE_CONNECTION_STRING)$"
)
_NOT_SECRET_NAME = re.compile(r"(?i)(?:_file|_path|_dir|_mode|_uri|_url)$")
_SHORTEST_SECRET = 6
"""Shorter values ("1", "true") stand in every other word; masking them would make logs unreadable.
"""


def secrets_in(environment: Mapping[str, str]) -> frozenset[str]:
    """The values of an environment's variables whose names say that they are secret."""
    return frozenset(
        value
        for name, value in environment.items()
        if len(value) >= _SHORTEST_SECRET
        and _SECRET_NAME.search(name)
        and not _NOT_SECRET_NAME.search(name)
    )


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """``text`` with every credential in it replaced by ``***``.

    Args:
        text: any text; multi-line is fine.
        secrets: exact values to hide besides the known shapes, as from `secrets_in`.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if _SUSPICIOUS.search(text):
        for sign, shape, replacement in _SHAPES:
            if sign.search(text):
                text = shape.sub(replacement, text)
    return text


_URL = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://+|(?P<mistyped>gs|gcs|s3a?|az|abfss?|hdfs|https?)(?::/?|//))(?P<rest>.*)",
    re.DOTALL | re.I,
)
_PASSWORD = re.compile(r"[^/@:]*:(?P<port>\d+(?:/|$))?[^@]*@")  # AWS's secrets contain slashes
_PLAIN_PATHS = frozenset({"file", "local", "github"})
_PORTLESS = frozenset({"s3", "s3a", "gs", "gcs"})


def holds_credential(url: str) -> bool:
    """Whether a URL (or a link of a chain of them) carries a user with a password, a token, or a
    signature.
    """
    return any(_in_one_url(link) for link in url.split("::")) or (
        "://" in url and re.search(_SIGNED, url) is not None
    )


def _in_one_url(url: str) -> bool:
    found = _URL.fullmatch(url)
    scheme = (found["scheme"] or found["mistyped"]).lower() if found else ""
    if found is None or scheme in _PLAIN_PATHS:
        return False
    password = _PASSWORD.match(found["rest"])
    if password is not None and (password["port"] is None or scheme in _PORTLESS):
        return True
    return scheme not in _NAMES_BEFORE_AT and "@" in found["rest"].partition("/")[0]


def redacted_data(data: Any, secrets: Collection[str] = ()) -> Any:
    """Plain data (mappings, lists, strings, numbers) with every string redacted, and values under
    secret names hidden whole.
    """
    if isinstance(data, str):
        return redacted(data, secrets)
    if data is None or isinstance(data, (int, float)):
        return data
    if isinstance(data, Mapping):
        return {
            name: MASK if _hides(name, value) else redacted_data(value, secrets)
            for name, value in data.items()
        }
    if isinstance(data, (list, tuple)):
        return [redacted_data(item, secrets) for item in data]
    return data


def _hides(name: object, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and bool(_SECRET_NAME.search(name))
        and not _NOT_SECRET_NAME.search(name)
    )
