"""What does an exception of a storage client mean to us?

Rule: five storage clients raise some sixty kinds of exception; here each becomes one of eight
meanings, by type and code, never by the wording alone. Which error of ours follows from a meaning
stands in ``failures``.
"""

from __future__ import annotations

import errno
from enum import Enum


class Meaning(Enum):
    """What went wrong, as far as the caller's next step is concerned."""

    MISSING = "missing"
    EXISTS = "exists"
    DENIED = "denied"
    FULL = "full"
    UNSUPPORTED = "unsupported"
    INVALID = "invalid"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


_DENIED_NAMES = {
    # botocore
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "NoAuthTokenError",
    # google.auth
    "DefaultCredentialsError",
    "RefreshError",
    "MutualTLSChannelError",
    # azure
    "ClientAuthenticationError",
}
_DENIED_CODES = {
    401,
    403,
    "401",
    "403",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "AccessDenied",
    "Forbidden",
}
_DENIED_CODES |= {
    "SignatureDoesNotMatch",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestExpired",
    "AuthorizationHeaderMalformed",
}
_TRANSIENT_CODES = {
    408,
    429,
    500,
    502,
    503,
    504,
    "408",
    "429",
    "500",
    "502",
    "503",
    "504",
    "SlowDown",
    "InternalError",
}
_TRANSIENT_CODES |= {
    "ServiceUnavailable",
    "RequestTimeout",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
}
_MISSING_CODES = {
    404,
    "404",
    "NoSuchKey",
    "NoSuchBucket",
    "NotFound",
    "BlobNotFound",
    "ContainerNotFound",
}
_EXISTS_CODES = {
    412,
    "412",
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "BlobAlreadyExists",
}
_INVALID_CODES = {
    400,
    "400",
    "InvalidBucketName",
    "InvalidArgument",
    "InvalidRequest",
    "InvalidURI",
    "InvalidResourceName",
    "KeyTooLongError",
}
_TRANSIENT_MODULES = (
    "aiohttp",
    "requests",
    "urllib3",
    "google.auth.exceptions",
    "azure.core.exceptions",
)
_TRANSIENT_BOTO = {
    "HTTPClientError",
    "ConnectionError",
    "IncompleteReadError",
    "ChecksumError",
    "FlexibleChecksumError",
}
"""The rest of botocore's own errors speaks of names, parameters and settings: the request never
left this machine.
"""
_INVALID_NAMES = {
    "InvalidURL",
    "MissingSchema",
    "InvalidSchema",
    "InvalidHeader",
    "InvalidProxyURL",
    "NonHttpUrlClientError",
}
DENIED_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TRANSIENT_ERRNOS = {
    errno.EIO,
    errno.EREMOTEIO,
    errno.EBUSY,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.ENETUNREACH,
}
_TRANSIENT_ERRNOS |= {
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.EHOSTUNREACH,
}


def meaning(error: BaseException) -> Meaning:
    """What ``error``, raised by a storage client or by the operating system, means."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Meaning.MISSING
    # Google's text of a failed condition ("At least one of the pre-conditions you specified did not
    # hold"), in whatever exception it comes; gcsfs makes a FileExistsError of it where it can
    if isinstance(error, FileExistsError) or "pre-condition" in str(error).lower():
        return Meaning.EXISTS
    if isinstance(error, PermissionError):
        return Meaning.DENIED
    if isinstance(error, TimeoutError | ConnectionError | EOFError):
        return Meaning.TRANSIENT
    return _by_code(error) or _by_name(error) or _by_errno(error) or Meaning.UNKNOWN


def _by_code(error: BaseException) -> Meaning | None:
    code = (
        getattr(error, "code", None)
        or getattr(error, "status", None)
        or getattr(error, "status_code", None)
    )
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        code = response.get("Error", {}).get("Code", code)
    if not isinstance(code, int | str):
        return None
    for codes, result in (
        (_DENIED_CODES, Meaning.DENIED),
        (_TRANSIENT_CODES, Meaning.TRANSIENT),
        (_MISSING_CODES, Meaning.MISSING),
        (_EXISTS_CODES, Meaning.EXISTS),
        (_INVALID_CODES, Meaning.INVALID),
    ):
        if code in codes:
            return result
    return None


def _by_name(error: BaseException) -> Meaning | None:
    kinds = type(error).__mro__
    if any(kind.__name__ in _DENIED_NAMES for kind in kinds):
        return Meaning.DENIED
    # gcsfs says 403 as a plain OSError whose text begins with the word
    if str(error).startswith("Forbidden:"):
        return Meaning.DENIED
    if type(error).__name__ == "ChecksumError":  # gcsfs and botocore
        return Meaning.TRANSIENT
    # A client's ValueError speaks of what it was given; what it can't make of an answer is of
    # another, more special kind
    if any(kind.__name__ in _INVALID_NAMES for kind in kinds) or type(error) is ValueError:
        return Meaning.INVALID
    if any(kind.__module__ == "botocore.exceptions" for kind in kinds):
        return (
            Meaning.TRANSIENT
            if any(kind.__name__ in _TRANSIENT_BOTO for kind in kinds)
            else Meaning.INVALID
        )
    if any(kind.__module__.startswith(_TRANSIENT_MODULES) for kind in kinds):
        return Meaning.TRANSIENT
    return None


def _by_errno(error: BaseException) -> Meaning | None:
    if not isinstance(error, OSError):
        return None
    if error.errno in DENIED_ERRNOS:
        return Meaning.DENIED
    if error.errno in _FULL_ERRNOS:
        return Meaning.FULL
    if error.errno in _TRANSIENT_ERRNOS:
        return Meaning.TRANSIENT
    if error.errno in {errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}:
        return Meaning.INVALID
    if error.errno in {errno.ENOSYS, errno.ENOTSUP}:
        return Meaning.UNSUPPORTED
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may work in a moment."""
    return meaning(error) is Meaning.TRANSIENT
