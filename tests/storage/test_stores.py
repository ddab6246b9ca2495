"""What every store promises, on a local folder and on a real S3 server."""

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import FailureKind, TransientError, UserError
from storage.backends import Entry, path_order
from storage.faults import RetryConfig
from storage.local_store import LocalBackend
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.conftest import QUICK

NAMES = ["a", "a.txt", "a/b", "a/b.c", "a/b/c", "a-b", "a b/%41", "a+", "b#c", "ä/ö", "z/0", "z/1/2", "Z"]


def paths(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [entry.path for entry in store.list(prefix, after=after)]


def test_create_is_made_once_and_says_by_whom(store: Store) -> None:
    assert store.create("x/y.bin", b"first")
    assert not store.create("x/y.bin", b"second")
    assert store.read_bytes("x/y.bin") == b"first"
    assert store.create("x/y.bin", b"first"), "a retried create that meets its own data was made"


def test_replace_takes_only_the_content_that_was_read(store: Store) -> None:
    store.create("lease", b"one")
    _, token = store.read_with_token("lease")
    assert store.replace("lease", b"two", token)
    assert not store.replace("lease", b"three", token), "the token is stale"
    assert store.read_bytes("lease") == b"two"
    assert not store.replace("absent", b"x", token)
    assert not store.exists("absent")


def test_missing_object_is_file_not_found(store: Store) -> None:
    for read in (store.read_bytes, store.open_input):
        with pytest.raises(FileNotFoundError):
            read("nothing/here")
    assert not store.exists("nothing/here")
    assert paths(store, "nothing/") == []
    assert list(store.folders("nothing/")) == []
    store.delete(["nothing/here"])


def test_lists_in_byte_order_of_whole_paths(store: Store) -> None:
    names = [name for name in NAMES if name not in ("a", "a/b")]  # a folder cannot have a file's name
    for name in names:
        store.create(name, name.encode())
    assert paths(store) == sorted(names, key=path_order)
    assert paths(store, "a/b") == ["a/b.c", "a/b/c"]
    assert paths(store, "z/") == ["z/0", "z/1/2"]
    assert paths(store, "z/", after="z/0") == ["z/1/2"]
    assert list(store.folders("z/")) == ["1"]
    assert [(entry.path, entry.size_bytes) for entry in store.list("ä")] == [("ä/ö", len("ä/ö".encode()))]


def test_lists_page_by_page(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.fill(s3_bucket, (f"p/{number:05d}" for number in range(1003)))
    store = Store.open(s3_bucket)
    start = len(s3_server.requests)
    listing = store.list("p/")
    assert next(listing).path == "p/00000"
    assert len(s3_server.requests) - start == 1, "the second page is not asked for yet"
    assert [entry.path for entry in listing] == [f"p/{number:05d}" for number in range(1, 1003)]
    assert len(s3_server.requests) - start == 2


def test_sees_what_another_writer_did_at_once(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket)
    assert paths(store) == []
    assert not store.exists("late")
    s3_server.client().put_object(Bucket=s3_bucket[5:], Key="late", Body=b"x")
    assert store.exists("late")
    assert paths(store) == ["late"]


def test_open_input_reads_only_what_is_asked_for(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket)
    sink = io.BytesIO()
    noise = pa.array([os.urandom(1000) for _ in range(2000)])
    pq.write_table(pa.table({"n": list(range(2000)), "noise": noise}), sink, row_group_size=100)
    store.create("t.parquet", sink.getvalue())
    ranges: list[str] = []

    def note(environ: WSGIEnvironment) -> None:
        ranges.append(environ.get("HTTP_RANGE", ""))

    with s3_server.refusing(note), store.open_input("t.parquet") as file:
        table = pq.ParquetFile(file).read_row_group(7, columns=["n"])
    assert table["n"].to_pylist() == list(range(700, 800))
    asked = [(int(last) - int(first) + 1) for first, last in (r[6:].split("-") for r in ranges if r)]
    assert 0 < sum(asked) < len(sink.getvalue()) / 10


def test_open_input_equals_the_object(store: Store) -> None:
    data = os.urandom(300_000)
    store.create("blob", data)
    with store.open_input("blob") as file:
        assert file.read() == data
        assert file.seek(-5, io.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.seek(100) == 100
        assert file.read(50) == data[100:150]


def test_one_of_many_creators_wins(store: Store) -> None:
    for turn in range(10):
        barrier = threading.Barrier(6)
        won: list[int] = []

        def contend(
            number: int, path: str = f"race/{turn}", gate: threading.Barrier = barrier, winners: list[int] = won
        ) -> None:
            gate.wait()
            if store.create(path, f"writer {number}".encode()):
                winners.append(number)

        threads = [threading.Thread(target=contend, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.read_bytes(f"race/{turn}") == f"writer {won[0]}".encode()


def test_one_of_many_replacers_wins(store: Store) -> None:
    store.create("lease", b"0")
    for _ in range(10):
        _, token = store.read_with_token("lease")
        barrier = threading.Barrier(6)
        won: list[bytes] = []

        def contend(
            data: bytes, seen: str = token, gate: threading.Barrier = barrier, winners: list[bytes] = won
        ) -> None:
            gate.wait()
            if store.replace("lease", data, seen):
                winners.append(data)

        threads = [threading.Thread(target=contend, args=(os.urandom(8),)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.read_bytes("lease") == won[0]


WRITER = """
import hashlib, os, sys
from storage.stores import Store
store = Store.open(sys.argv[1])
print("ready", flush=True)
number = 0
body = os.urandom(int(sys.argv[3]))
while True:
    store.create(f"{sys.argv[2]}/{number}", hashlib.sha256(body).digest() + body)
    number += 1
"""


def test_a_writer_killed_at_any_moment_leaves_whole_objects_only(store: Store, store_uri: str) -> None:
    for turn in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, store_uri, str(turn), str(2_000_000 if "s3:" in store_uri else 50_000_000)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        until = time.monotonic() + 0.05 + turn * 0.037  # the moment only varies what is interrupted
        while time.monotonic() < until or not store.exists(f"{turn}/0"):
            time.sleep(0.005)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    entries = list(store.list())
    assert len(entries) >= 3
    for entry in entries:
        data = store.read_bytes(entry.path)
        assert hashlib.sha256(data[32:]).digest() == data[:32], entry.path


def test_leftovers_of_a_killed_local_writer_are_not_listed_and_swept(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.create("whole", b"x")
    left = tmp_path / ".tmp" / "dead.part"
    left.write_bytes(b"half")
    assert paths(store) == ["whole"]
    assert list(store.folders("")) == []
    assert store.sweep(min_age_seconds=3600) == 0
    assert store.sweep(min_age_seconds=0) == 1
    assert not left.exists()
    assert store.read_bytes("whole") == b"x"


def test_local_create_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    store = Store.open(str(tmp_path))
    assert store.create("a/b", b"1")
    assert not store.create("a/b", b"2")
    assert store.read_bytes("a/b") == b"1"
    assert not list((tmp_path / ".tmp").glob("*.part"))


def times(count: int, method: str, status: int, code: str) -> "tuple[list[int], object]":
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
    with s3_server.refusing(gate):  # type: ignore[arg-type]
        assert store.create("x", b"1")
    assert left == [0]
    assert store.read_bytes("x") == b"1"


def test_a_create_whose_answer_was_lost_counts_as_made(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket, retry=QUICK)
    left, gate = times(1, "PUT", 500, "InternalError")
    s3_server.lose_answer = gate  # type: ignore[assignment]
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
    with s3_server.refusing(gate), pytest.raises(TransientError) as caught:  # type: ignore[arg-type]
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
        with s3_server.refusing(gate), pytest.raises(UserError) as caught:  # type: ignore[arg-type]
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


def test_kinds_of_uri(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert Store.open(f"file://{tmp_path}").read_bytes("file") == b"x"
    with pytest.raises(UserError, match="is a file"):
        Store.open(str(tmp_path / "file"))
    with pytest.raises(UserError, match="unknown kind of store 'nope'"):
        Store.open("nope://secret:word@x/y")
    memory = Store.open("memory://out/x")
    assert memory.create("a/b", b"1")
    assert not memory.create("a/b", b"2")
    data, token = memory.read_with_token("a/b")
    assert memory.replace("a/b", b"3", token)
    assert not memory.replace("a/b", b"4", token)
    assert [(entry.path, entry.size_bytes) for entry in memory.list()] == [("a/b", 1)]
    memory.delete(["a/b", "gone"])
    assert data == b"1"
    assert not memory.exists("a/b")


def test_create_many_replaces_leftovers(store: Store) -> None:
    store.create("n/3", b"left by a killed writer")
    store.create_many((f"n/{number}", str(number).encode()) for number in range(40))
    assert [store.read_bytes(f"n/{number}") for number in range(40)] == [str(n).encode() for n in range(40)]


def test_linked_folders_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "a").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b").write_bytes(b"2")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "deep" / "loop").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "broken").symlink_to(tmp_path / "nowhere")
    assert paths(Store.open(str(tmp_path / "out"))) == ["deep/a", "link/b"]
