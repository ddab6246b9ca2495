"""Walks the headers of a tar in an object store: where each member's bytes lie, without reading them.

Python's `tarfile` reads the formats (ustar, GNU long names, pax); this file keeps it from what a hostile or damaged tar
makes it do: read headers of any length into memory, remember every member, or take garbage for the tar's end.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from records.errors import ReelscribeError, UserError
from storage.source_items import LeftOut, LeftOutReason, shown
from storage.source_objects import SourceObject

BUFFER_BYTES = 16 * 1024
"""Least that is fetched behind a jump: a header, and small members that follow."""

AHEAD_BYTES = 4 * 1024**2
"""Most that is fetched at a time where members are small."""

MOST_READ_BYTES = 1024**2
"""Longest member that `TarReader.read` takes."""

_MOST_HEADER_BYTES = MOST_READ_BYTES
"""Most that the headers of one member may take."""

_BLOCK = 512
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file inside a tar."""

    name: str
    """Without `./` before it."""
    offset: int
    """First byte of its content in the tar."""
    size_bytes: int


class _Headers(io.BufferedReader):
    """The tar as `tarfile` sees it: from one member to the next it reads no more than headers may take."""

    allowance: int = _MOST_HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.allowance:
            raise tarfile.ReadError(f"headers of more than {_MOST_HEADER_BYTES} bytes")
        self.allowance -= size
        return super().read(size)


class TarReader:
    """One tar, whose members are walked once and in order. Close it after use.

    Raises:
        UserError: It is compressed.
    """

    def __init__(self, source: SourceObject) -> None:
        self._source = source
        opened = source.store.open_input(source.entry.path, buffer_bytes=BUFFER_BYTES, max_ahead_bytes=AHEAD_BYTES)
        self._file = _Headers(opened.detach(), buffer_size=BUFFER_BYTES)
        start = self._file.peek(8)
        for magic, packing in _PACKED.items():
            if start.startswith(magic):
                raise UserError(
                    f"{source.name} is compressed ({packing}): its members have no ranges of bytes; unpack it"
                )

    def members(self) -> Iterator[Member | LeftOut]:
        """Every file with its range of bytes, and what is left out: unsafe names, links, devices, what is cut off."""
        try:
            with tarfile.open(fileobj=self._file, mode="r:", errorlevel=0) as tar:
                behind = 0
                while (found := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined] # it would remember every one
                    self._file.allowance = _MOST_HEADER_BYTES
                    if tar.offset <= behind or found.size < 0 or not found.pax_headers.get("size", "0").isdecimal():
                        raise tarfile.ReadError("a member whose length makes no sense")
                    behind = tar.offset
                    member = None if found.isdir() else self._member(found)
                    if member is not None:
                        yield member
                    if behind > self._source.entry.size_bytes:
                        return
                self._check_end(tar.offset)
        except ReelscribeError:  # the store's: a UserError is a ValueError too
            raise
        except tarfile.TarError as error:
            yield self._broken(str(error))
        except (ValueError, OverflowError, RecursionError):
            yield self._broken("a header makes no sense")

    def read(self, member: Member) -> bytes:
        """The content of a member of at most `MOST_READ_BYTES`; the walk goes on behind it."""
        self._file.seek(member.offset)
        self._file.allowance = _MOST_HEADER_BYTES
        data = self._file.read(member.size_bytes)
        self._file.allowance = _MOST_HEADER_BYTES
        return data

    def close(self) -> None:
        """Lets go of the object."""
        self._file.close()

    def _member(self, found: tarfile.TarInfo) -> Member | LeftOut:
        where = f"{shown(found.name)} in {self._source.name}"
        reason = _wrong(found)
        if reason is None and found.offset_data + found.size > self._source.entry.size_bytes:
            reason = LeftOutReason.TRUNCATED
        if reason is not None:
            return LeftOut(reason=reason, name=where)
        return Member(name=found.name.removeprefix("./"), offset=found.offset_data, size_bytes=found.size)

    def _check_end(self, offset: int) -> None:
        """A tar ends with a block of zeros or with the file; `tarfile` ends at anything that is no header."""
        self._file.seek(min(offset, self._source.entry.size_bytes))
        rest = self._file.read(_BLOCK)
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {offset}")

    def _broken(self, words: str) -> LeftOut:
        return LeftOut(reason=LeftOutReason.BROKEN_FILE, name=f"{self._source.name}: {' '.join(words.split())}")


def _wrong(found: tarfile.TarInfo) -> LeftOutReason | None:
    if found.issym() or found.islnk():
        return LeftOutReason.LINK
    if found.issparse():
        return LeftOutReason.SPARSE
    if not found.isreg():
        return LeftOutReason.NOT_A_FILE
    if found.name.startswith("/") or ".." in found.name.split("/"):
        return LeftOutReason.UNSAFE_NAME
    return None
