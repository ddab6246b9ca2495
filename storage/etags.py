"""When two ETags say that content is another one: only those of the same kind can be compared.

an ETag of a store or web server   no spaces in it (RFC 9110, 8.8.3)
a web server's Last-Modified       stands in where it sends no ETag; a date, with spaces
time of change and size            stand in for files on disk (`storage.local_listing.local_etag`), and for those
                                   of file systems without ETags (`storage.fsspec_store.etag_of`)
"""

import re

_LOCAL = re.compile(r"-?[0-9]{1,20}-[0-9]+")
_OTHER_FILE = re.compile(r"-?[0-9]+\.[0-9]{6}-([0-9]+|None)")


def differ(one: str, other: str) -> bool:
    """Whether two ETags say so; one that is empty or of another kind says nothing."""
    return bool(one and other) and one != other and _kind(one) == _kind(other)


def is_local(etag: str) -> bool:
    """Whether it may be that of a file on disk: what a list says of one never is."""
    return _LOCAL.fullmatch(etag) is not None


def _kind(etag: str) -> str:
    """Not told by the pattern of local files, which a web server's own ETag may fit by chance."""
    if " " in etag:
        return "date"
    return "time and size" if _OTHER_FILE.fullmatch(etag) else "tag"
