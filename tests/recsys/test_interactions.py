"""Interactions are read from each format alike, and what is wrong in a file is named."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from recsys.interactions import Interactions, read_interactions

EVENTS = [("7", "b"), ("7", "a"), ("12", "c"), ("7", "c"), ("12", "a")]
ORDERED = [("12", "c"), ("12", "a"), ("7", "b"), ("7", "a"), ("7", "c")]


def named(interactions: Interactions) -> list[tuple[str, str]]:
    users, items = interactions.user_ids, interactions.item_ids
    return [(users[u], items[i]) for u, i in zip(interactions.users, interactions.items, strict=True)]


def by_user(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {user: [item for one, item in pairs if one == user] for user, _ in pairs}


def test_every_format_gives_the_same_events(tmp_path: Path) -> None:
    (tmp_path / "a_pairs.tsv").write_bytes(b"7\tb a c\r\n12\tc a\r\n\r\n")
    lines = [f"{user},{item},{time}" for time, (user, item) in enumerate(EVENTS)]
    (tmp_path / "pairs.csv").write_text("user,item,timestamp\n" + "\n".join(lines[::-1]) + "\n")
    start = datetime.datetime(2026, 1, 1)
    table = pa.table(
        {
            "video_id": [item for _, item in EVENTS],
            "user_id": pa.array([int(user) for user, _ in EVENTS], pa.int64()),
            "time": [start + datetime.timedelta(hours=time) for time in range(len(EVENTS))],
            "more": [[1]] * len(EVENTS),
        }
    )
    pq.write_table(table, tmp_path / "events.parquet")
    for name in ("a_pairs.tsv", "pairs.csv", "events.parquet"):
        events = read_interactions(str(tmp_path / name))
        assert by_user(named(events)) == by_user(ORDERED), name
        assert (events.users[1:] >= events.users[:-1]).all()


def test_ids_are_text_and_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user,item,time\n01,007,5\n01,7,5\n01,07,4\n")
    assert named(read_interactions(str(tmp_path / "e.csv"))) == [("01", "07"), ("01", "007"), ("01", "7")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.tsv", "1\t5 6\n2 7\n", "line 2 is not"),
        ("e.tsv", "1\t\n", "line 1 is not"),
        ("e.tsv", "1\t5\t6\n", "line 1 is not"),
        ("e.tsv", "\n", "holds no interaction"),
        ("e.csv", "user,item\n1,2\n", "no column time or timestamp"),
        ("e.csv", "who,item,time\n1,2,3\n", "no column user or user_id"),
        ("e.csv", "user,item,time\n1,2,3\n1,,4\n", "row 2 has no item"),
        ("e.csv", "user,item,time\n1,2,3\n ,5,4\n", "row 2 has no user"),
        ("e.csv", "user,item,time\n1,2,\n", "row 1 has no time"),
        ("e.csv", "user,item,time\n1,2,soon\n", "numbers or timestamps"),
        ("e.csv", "user,item,time\n1,2,nan\n1,2,inf\n", "not finite"),
        ("e.csv", "user,item,time\n1,2\n", "cannot be read"),
        ("e.parquet", "no parquet", "cannot be read"),
        ("e.json", "{}", "must be one of .tsv, .csv, .parquet"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_interactions(str(tmp_path / name))


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    columns = [list(column) for column in zip(*EVENTS, strict=True)]
    pq.write_table(pa.table({"user": columns[0], "item": columns[1], "time": range(len(EVENTS))}), file)
    whole = bytearray(file.read_bytes())
    whole[4:40] = (255 - byte for byte in whole[4:40])  # behind the magic number: the first page
    file.write_bytes(whole)
    with pytest.raises(OSError, match="deserialize"):
        pq.read_table(file)
    with pytest.raises(UserError, match=r"e\.parquet cannot be read: .*deserialize"):
        read_interactions(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.tsv: no such file"):
        read_interactions(str(tmp_path / "none.tsv"))
