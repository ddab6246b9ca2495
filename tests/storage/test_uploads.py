"""Large objects in pieces: whole at the end and nothing before, on every kind of store."""

import os
import threading
import uuid
from pathlib import Path

import pytest

from records.errors import UserError
from storage.backends import Piece
from storage.stores import Store
from storage.uploads import MAX_PIECES, ObjectWriter, piece_bytes_for
from tests.s3 import S3Server

PIECE = 5 * 2**20
"""The least that S3 takes."""


@pytest.fixture(params=["local", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store.open(str(tmp_path / "out"))
    if request.param == "memory":
        return Store.open(f"memory://{uuid.uuid4().hex}/out")
    return Store.open(f"{request.getfixturevalue('s3_bucket')}/out")


def listed(store: Store) -> list[str]:
    return [entry.path for entry in store.list("big/")]


@pytest.mark.parametrize("size", [0, 1000, 2 * PIECE, 3 * PIECE - 1])
def test_a_written_object_equals_what_was_written(store: Store, size: int) -> None:
    data = os.urandom(size)
    with ObjectWriter(store, "big/one", piece_bytes=PIECE) as file:
        for start in range(0, size, 700_001):
            file.write(data[start : start + 700_001])
        assert listed(store) == [], "not there before it is whole"
        assert file.tell() == size
    assert file.created
    assert store.size("big/one") == size
    assert store.read_bytes("big/one") == data
    assert store.open_uploads("") == []


def test_an_object_that_is_there_stays(store: Store) -> None:
    store.create("big/one", b"first")
    for size in (10, 3 * PIECE):
        with ObjectWriter(store, "big/one", piece_bytes=PIECE) as file:
            file.write(bytes(size))
        assert not file.created
        assert store.read_bytes("big/one") == b"first"
    assert store.open_uploads("") == []


def test_a_writer_that_fails_leaves_nothing(store: Store) -> None:
    def write() -> None:
        with ObjectWriter(store, "big/one", piece_bytes=PIECE) as file:
            file.write(bytes(3 * PIECE))
            assert [path for path, _ in store.open_uploads("big/")] == ["big/one"]
            raise KeyError("half-way")

    with pytest.raises(KeyError, match="half-way"):
        write()
    assert (listed(store), store.open_uploads("")) == ([], [])


def test_pieces_come_in_any_order_from_anywhere_and_may_be_sent_twice(store: Store) -> None:
    data = os.urandom(3 * PIECE + 17)
    token = store.start_upload("big/one")
    receipts: dict[int, str] = {}

    def send(number: int) -> None:
        start = number * PIECE
        piece = Piece(number=number, offset=start)
        receipts[number] = store.put_piece("big/one", token, piece, data[start : start + PIECE])

    threads = [threading.Thread(target=send, args=(number,)) for number in (3, 1, 0, 2, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.finish_upload("big/one", token, [receipts[number] for number in range(4)], len(data))
    assert store.read_bytes("big/one") == data


def test_what_a_killed_writer_left_is_found_and_removed(store: Store) -> None:
    for path in ("big/one", "big/one", "other/two"):
        store.put_piece(path, store.start_upload(path), Piece(number=0, offset=0), b"x")
    left = store.open_uploads("big/")
    assert [path for path, _ in left] == ["big/one"] * 2
    for path, token in left:
        store.abort_upload(path, token)
        store.abort_upload(path, token)
    assert [path for path, _ in store.open_uploads("")] == ["other/two"]
    assert listed(store) == []


def test_a_completion_whose_answer_was_lost_counts_as_made(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket)
    lost: list[str] = []

    def lose(environ: dict[str, str]) -> tuple[int, str] | None:
        completes = environ["REQUEST_METHOD"] == "POST" and "uploadId" in environ["QUERY_STRING"]
        if completes and not lost:
            lost.append(environ["PATH_INFO"])
            return 500, "InternalError"
        return None

    s3_server.lose_answer = lose
    try:
        with ObjectWriter(store, "big/one", piece_bytes=PIECE) as file:
            file.write(bytes(3 * PIECE))
    finally:
        s3_server.lose_answer = None
    assert lost
    assert file.created
    assert store.size("big/one") == 3 * PIECE


def test_leftovers_of_local_uploads_go_with_a_sweep(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.put_piece("big/one", store.start_upload("big/one"), Piece(number=0, offset=0), b"x")
    assert [entry.path for entry in store.list()] == []
    assert store.sweep(min_age_seconds=3600) == 0
    assert store.sweep(min_age_seconds=0) == 1
    assert store.open_uploads("") == []


def test_pieces_grow_where_there_would_be_too_many() -> None:
    assert piece_bytes_for(10, 100) == 100
    size = 200 * 2**30
    assert size / piece_bytes_for(size) <= MAX_PIECES
    assert piece_bytes_for(10 * size, 64 * 2**20) * MAX_PIECES >= 10 * size


def test_a_full_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)

    def write() -> None:
        with ObjectWriter(Store.open(str(tmp_path)), "big/one", piece_bytes=PIECE) as file:
            file.write(bytes(2 * PIECE))

    with pytest.raises(UserError, match="is full"):
        write()
