"""What every store promises, on a local folder and on a real S3 server."""

import errno
import hashlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from storage.backends import path_order
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


def test_folders_and_deletions_go_page_by_page_each_with_its_retries(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.fill(s3_bucket, (f"p/{number:05d}/x" for number in range(2003)))
    store = Store.open(s3_bucket, retry=QUICK)
    requests = itertools.count()

    def every_third(environ: WSGIEnvironment) -> tuple[int, str] | None:
        return (503, "SlowDown") if next(requests) % 3 else None

    with s3_server.refusing(every_third):
        assert store.folders("p/") == [f"{number:05d}" for number in range(2003)]
        assert next(requests) == 2 * 3 + 1, "pages that came are not asked for again"
        store.delete([f"p/{number:05d}/x" for number in range(2003)])
    assert list(store.list()) == []


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


def test_kinds_of_uri(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert Store.open(f"file://{tmp_path}").read_bytes("file") == b"x"
    with pytest.raises(UserError, match="is a file"):
        Store.open(str(tmp_path / "file"))
    with pytest.raises(UserError, match="unknown kind of store 'nope'"):
        Store.open("nope://x/y")
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
    (tmp_path / "out" / "itself").symlink_to(tmp_path / "out" / "itself")
    assert paths(Store.open(str(tmp_path / "out"))) == ["deep/a", "link/b"]
