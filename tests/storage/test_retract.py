"""What a refused command takes back: the only object of a store that was new, and the folders that were made for it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from records.errors import UserError
from storage.leases import Lease
from storage.stores import Store
from tests.storage.conftest import QUICK

ONLY = "leases/lease.json"


def refused(store: Store) -> None:
    with pytest.raises(UserError, match="no such column"), Lease.acquire(store, "refused"):
        raise UserError("no such column")


def test_a_refused_command_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    refused(Store.open(str(tmp_path / "new" / "out")))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    refused(Store.open(str(tmp_path / "mine" / "out")))
    refused(Store.open(str(tmp_path / "mine")))
    assert [list(folder.iterdir()) for folder in tmp_path.iterdir()] == [[]]


def test_what_else_is_there_stays_and_the_lease_is_free(store: Store) -> None:
    store.create("catalog/revisions/00000001.json", b"{}")
    refused(store)
    assert [entry.path for entry in store.list()] == ["catalog/revisions/00000001.json", ONLY]
    with Lease.acquire(store, "next"):
        pass
    assert store.exists(ONLY), "a command that succeeds takes nothing back"


def test_another_content_or_a_file_on_its_way_keeps_everything(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "out"))
    store.create(ONLY, b"1")
    _, token = store.read_with_token(ONLY)
    store.replace(ONLY, b"2", token)
    store.retract(ONLY, token)
    _, token = store.read_with_token(ONLY)
    waiting = tmp_path / "out" / ".tmp" / "of another writer.part"
    waiting.touch()
    store.retract(ONLY, token)
    assert store.read_bytes(ONLY) == b"2"
    waiting.unlink()
    store.retract(ONLY, token)
    assert list(tmp_path.iterdir()) == []


def test_beside_writers_that_come_and_go_nothing_is_lost(tmp_path: Path) -> None:
    def come_and_go(name: str) -> None:
        for turn in range(100):
            store = Store.open(str(tmp_path / "out"), retry=QUICK)
            path = f"shared/deep/{'er/' * (turn % 4)}{name}{turn}"
            assert store.create(path, b"first")
            _, token = store.read_with_token(path)
            assert store.replace(path, b"second", token)
            data, token = store.read_with_token(path)
            assert data == b"second"
            store.retract(path, token)
            store.delete([path])

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(come_and_go, name) for name in "abcd"]:
            done.result()


def test_a_file_where_a_folder_is_to_be_is_said(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.create("a", b"a file")
    with pytest.raises(UserError, match="a file, not a folder"):
        store.create("a/b", b"1")
    assert store.read_bytes("a") == b"a file"


@pytest.mark.parametrize("error", [FileExistsError, FileNotFoundError])
def test_a_folder_that_goes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    mkdir, gone = Path.mkdir, [3]

    def vanishing(self: Path, *arguments: object, **options: object) -> None:
        if self.name == "b" and gone[0]:
            gone[0] -= 1
            raise error(2, "went in the same moment", str(self))
        mkdir(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", vanishing)
    store = Store.open(str(tmp_path))
    assert store.create("a/b/c", b"1")
    assert (store.read_bytes("a/b/c"), gone) == (b"1", [0])
