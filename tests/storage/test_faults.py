"""What a failing store looks like from inside: retried, or typed, in one line, without a credential."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import pytest

from records.errors import FailureKind, TransientError, UserError
from storage.backends import Entry
from storage.faults import RetryConfig
from storage.local_store import LocalBackend
from storage.stores import Store
from tests.s3 import Gate, S3Server
from tests.storage.conftest import QUICK


def times(count: int, method: str, status: int, code: str) -> tuple[list[int], Gate]:
    left = [count]

    def gate(environ: WSGIEnvironment) -> tuple[int, str] | None:
        if environ["REQUEST_METHOD"] != method or left[0] == 0:
            return None
        left[0] -= 1
        return status, code

    return left, gate


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")])
def test_transient_faults_are_retried(s3_server: S3Server, s3_bucket: str, status: int, code: str) -> None:
    store = Store.open(s3_bucket, retry=QUICK)
    left, gate = times(2, "PUT", status, code)
    with s3_server.refusing(gate):
        assert store.create("x", b"1")
    assert left == [0]
    assert store.read_bytes("x") == b"1"


def test_a_create_whose_answer_was_lost_counts_as_made(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket, retry=QUICK)
    left, gate = times(1, "PUT", 500, "InternalError")
    s3_server.lose_answer = gate
    try:
        assert store.create("x", b"mine")
        assert left == [0]
        left[0] = 1
        _, token = store.read_with_token("x")
        assert store.replace("x", b"mine too", token)
        assert left == [0]
    finally:
        s3_server.lose_answer = None
    assert store.read_bytes("x") == b"mine too"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", FailureKind.THROTTLED),
        (500, "InternalError", FailureKind.UNREACHABLE),
        (408, "RequestTimeout", FailureKind.TIMEOUT),
    ],
)
def test_faults_that_stay_are_typed(
    s3_server: S3Server, s3_bucket: str, status: int, code: str, kind: FailureKind
) -> None:
    store = Store.open(s3_bucket, retry=QUICK)
    _, gate = times(-1, "GET", status, code)
    start = len(s3_server.requests)
    with s3_server.refusing(gate), pytest.raises(TransientError) as caught:
        store.read_bytes("x")
    assert caught.value.kind is kind
    assert len(s3_server.requests) - start == QUICK.attempts, "inner layers do not multiply the tries"


@pytest.mark.usefixtures("new_connections")
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientError) as caught:
        Store.open("s3://bucket/x", retry=QUICK)
    assert caught.value.kind is FailureKind.UNREACHABLE


def test_refused_credentials_are_one_line_without_them(s3_server: S3Server, s3_bucket: str) -> None:
    for code in ("AccessDenied", "InvalidAccessKeyId", "ExpiredToken"):
        _, gate = times(-1, "GET", 403 if code != "ExpiredToken" else 400, code)
        with s3_server.refusing(gate), pytest.raises(UserError) as caught:
            Store.open(s3_bucket, retry=QUICK)
        assert code in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "testing" not in str(caught.value)


def test_missing_bucket(s3_server: S3Server) -> None:
    with pytest.raises(UserError, match="no such bucket"):
        Store.open("s3://not-there-at-all/x")
    with pytest.raises(UserError, match="names no bucket"):
        Store.open("s3:///x")


def signed_only(environ: WSGIEnvironment) -> tuple[int, str] | None:
    return None if "HTTP_AUTHORIZATION" in environ else (403, "AccessDenied")


@pytest.mark.usefixtures("new_connections")
def test_without_credentials_requests_go_unsigned(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket[5:], Key="clip", Body=b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with s3_server.refusing(signed_only), pytest.raises(UserError, match=r"access refused \(NoCredentialsError\)"):
        Store.open(s3_bucket, retry=QUICK)
    with pytest.raises(UserError, match="access refused"):  # the server's own judgement of a private object
        Store.open(s3_bucket, retry=QUICK).read_bytes("clip")
    client.put_object_acl(Bucket=s3_bucket[5:], Key="clip", ACL="public-read")
    assert Store.open(s3_bucket, retry=QUICK).read_bytes("clip") == b"x"


class BrokenBackend(LocalBackend):
    """A folder on a disk that fails."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder)
        self._number = number

    def create(self, path: str, data: bytes) -> bool:
        """Fails."""
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "is read-only"), (errno.ENOSPC, "is full"), (errno.EACCES, "access refused")]
)
def test_a_disk_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Store(BrokenBackend(tmp_path, number), QUICK).create("x", b"")


def test_a_stale_network_disk_is_transient(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        Store(BrokenBackend(tmp_path, errno.ESTALE), QUICK).create("x", b"")


class UnorderedBackend(LocalBackend):
    """A store that lists as it likes, as S3's directory buckets do."""

    def page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """Backwards."""
        entries: Sequence[Entry] = list(super().page(prefix, after)[0])
        return iter(entries[::-1]), False


def test_a_store_that_lists_out_of_order_is_refused(tmp_path: Path) -> None:
    store = Store(UnorderedBackend(tmp_path), RetryConfig())
    store.create("a", b"")
    store.create("b", b"")
    with pytest.raises(UserError, match="in order"):
        list(store.list())
