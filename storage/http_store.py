"""What lies under an http(s) address, to be read alone: a list, a tar or a Parquet file named by its URL."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from records.errors import BadItemError, UserError
from storage.backends import Entry, Piece
from storage.faults import TimeLimits, redact
from storage.http_client import HttpClient

_LARGEST_READ = 1024**3


class HttpBackend:
    """A folder on a web server: it can be read, not listed and not written."""

    def __init__(self, uri: str, limits: TimeLimits) -> None:
        self._base = uri if uri.endswith("/") else f"{uri}/"
        self._client = HttpClient(limits)

    @property
    def root(self) -> str:
        """The address with `/` at its end, without user or password."""
        return redact(self._base)

    def check(self) -> None:
        """Nothing can be said before an object is asked for."""
        if not urlsplit(self._base).netloc:
            raise UserError(f"{self.root} names no host")

    def read(self, path: str) -> tuple[bytes, str]:
        """Content and ETag."""
        etags: list[str] = []
        data = self._read(path, None, None, etags)
        return data, etags[0]

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end)."""
        return self._read(path, start, end, [])

    def size(self, path: str) -> int:
        """Length in bytes."""
        return self._entry(path).size_bytes

    def _entry(self, path: str) -> Entry:
        reply = self._client.facts(self._base + path)
        if reply.size_bytes is None or (reply.body_bytes or 0) > 1:
            raise UserError(
                f"{redact(self._base + path)}: the server does not serve ranges of bytes: copy it to a store"
            )
        return Entry(path=path, size_bytes=reply.size_bytes, etag=reply.etag, modified=0.0)

    def _read(self, path: str, start: int | None, end: int | None, etags: list[str]) -> bytes:
        try:
            return self._client.read(
                self._base + path,
                start=start,
                end=end,
                accept=lambda reply: etags.append(reply.etag),
                max_bytes=_LARGEST_READ,
            )
        except BadItemError as error:
            raise UserError(f"{redact(self._base + path)}: {error}") from None

    def create(self, path: str, data: bytes) -> bool:
        """Refused."""
        raise self._read_only()

    def replace(self, path: str, data: bytes, token: str) -> bool:
        """Refused."""
        raise self._read_only()

    def page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """The one object of that very name: web servers list nothing that can be relied on."""
        if not prefix:
            raise UserError(
                f"{self.root}: a web server has no listing: name a list, a tar or a Parquet file of it, and with "
                "--format what it is where its name does not say so"
            )
        return iter(() if after else (self._entry(prefix),)), False

    def names(self, folder: str) -> None:
        """Nothing is quicker than a listing."""
        return None

    def folders(self, prefix: str, token: str) -> tuple[Sequence[str], str]:
        """Refused."""
        raise self._read_only()

    def delete(self, paths: Sequence[str]) -> None:
        """Refused."""
        raise self._read_only()

    def retract(self, path: str, token: str) -> None:
        """Refused."""
        raise self._read_only()

    def start_upload(self, path: str) -> str:
        """Refused."""
        raise self._read_only()

    def put_piece(self, path: str, token: str, piece: Piece, data: bytes) -> str:
        """Refused."""
        raise self._read_only()

    def finish_upload(self, path: str, token: str, receipts: Sequence[str], size_bytes: int) -> bool:
        """Refused."""
        raise self._read_only()

    def abort_upload(self, path: str, token: str) -> None:
        """Refused."""
        raise self._read_only()

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """None is ever begun."""
        return iter(())

    def sweep(self, min_age_seconds: float) -> int:
        """Nothing is left behind."""
        return 0

    def _read_only(self) -> UserError:
        return UserError(f"{self.root}: a web server takes no output: choose a folder or an object store")
