"""Columns that the user named: kept with the catalog, for nights that do not name them."""

from pathlib import Path

import pytest

from records.errors import UserError
from tests.jobs.test_listing import items_of, listing


def test_a_night_that_names_no_columns_reads_those_named_before(tmp_path: Path) -> None:
    source, output = tmp_path / "l.csv", tmp_path / "out"
    source.write_text("id,clip,url,name\n1,a,a.mp4,One\n2,b,b.mp4,Two\n")
    assert listing(output, source, columns="id=clip,title=name").new == 2
    source.write_text("id,clip,url,name\n1,a,a.mp4,One\n2,b,b.mp4,Zwei\n3,c,c.mp4,Three\n")
    change = listing(output, source)
    assert (change.new, change.deleted, change.unchanged, change.metadata_changed) == (1, 0, 2, 1)
    assert set(items_of(output)) == {"a", "b", "c"}
    titles = tmp_path / "titles.csv"
    titles.write_text("video_id,title\na,Uno\n")
    listing(output, source, metadata=str(titles), known="as it is")
    assert listing(output, source).deleted == 0
    with pytest.raises(UserError, match=r"l.csv with --columns id=clip, not id: choose another output"):
        listing(output, source, columns="id=id")
    assert listing(output, source, columns="id=clip,title=clip").metadata_changed == 3
