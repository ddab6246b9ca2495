"""Presigned URLs: which of their parameters sign, so that the same object signed anew is seen as the same object.

A signature is a credential with a time limit. The catalog's shards and index hold a URL without it; the whole URL lies
in the catalog's `locations` alone, which a new listing replaces. Parameters are those of Amazon S3 and of what speaks
it (Signature Versions 4 and 2), CloudFront, Google Cloud Storage, Azure's shared access signatures, Alibaba Cloud OSS
(versions 4 and 1), Tencent Cloud COS and Akamai's tokens. A plain `token` may be anything and stays.
"""

import hashlib
from urllib.parse import urlsplit, urlunsplit

from storage.faults import without_password

_PREFIXES = ("x-amz-", "x-goog-")
_SIGNATURES = {"signature", "awsaccesskeyid", "googleaccessid", "expires", "key-pair-id", "policy", "hash-algorithm"}
_SIGNATURES |= {"ossaccesskeyid", "security-token"}
_SHARED_ACCESS = {"sv", "ss", "srt", "sr", "st", "se", "sp", "sip", "spr", "sig", "ses", "sdd", "scid"} | {
    f"{start}{end}" for start in ("sk", "sa", "su") for end in ("oid", "tid", "t", "e", "s", "v")
}
"""Azure's, which mean this only beside `sig`."""

_BESIDE = {
    "sig": _SHARED_ACCESS,
    # Not all that begin like these: `x-oss-process` and `ci-process` choose what is sent.
    "x-oss-signature": {"x-oss-signature"}
    | {f"x-oss-{name}" for name in ("signature-version", "credential", "date", "expires", "additional-headers")}
    | {"x-oss-security-token"},
    "q-signature": {"q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list"}
    | {"q-signature", "x-cos-security-token"},
    "hdnts": {"hdnts"},
    "hdnea": {"hdnea"},
}
"""Parameter to what signs where it is there."""


def unsigned(uri: str) -> str:
    """The URI without password and, for http(s), without user and signature; as it is where it has none of them."""
    plain = without_password(uri)
    scheme = plain.partition("://")[0]
    if scheme.lower() not in ("http", "https") or "://" not in plain:
        return plain
    try:
        parts = urlsplit(plain)
    except ValueError:  # no URL at all: the fetcher will say so
        return plain
    rest = urlunsplit(("", parts.netloc, parts.path, _unsigned_query(parts.query), ""))
    return f"{scheme}:{rest}"


def _unsigned_query(query: str) -> str:
    parameters = query.split("&") if query else []
    names = [parameter.partition("=")[0].lower() for parameter in parameters]
    beside = set[str]().union(*(_BESIDE.get(name, ()) for name in names))
    signed = any(name.startswith(_PREFIXES) or name == "signature" for name in names)
    signing = beside | (_SIGNATURES if signed else set())
    kept = [
        parameter
        for name, parameter in zip(names, parameters, strict=True)
        if name not in signing and not (signed and name.startswith(_PREFIXES))
    ]
    return "&".join(kept)


def signature_digest(uri: str) -> str:
    """Equal for equal signed URLs, and empty for a URL without a signature. Does not give the signature away."""
    if unsigned(uri) == uri:
        return ""
    return hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()
