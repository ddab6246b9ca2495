"""A script that reads what lies there ends as it began: no thread of Arrow's lives on to let go of Python's bytes."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from storage.catalog_refresh import refresh
from storage.source_items import SourceItem
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.releases import write_release
from tests.storage.test_stage_tables import ROWS

SCRIPT = """
import os, sys
from storage.catalog import Catalog
from storage.release_reader import ReleaseReader
from storage.stage_tables import StageTables
from storage.stores import Store

def threads():
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    return sum(not name.startswith("jemalloc") for name in names)  # Arrow's allocator, which holds nothing of Python's

store = Store.open(sys.argv[1])
found = [threads()]
catalog = Catalog.open(store)
catalog.read_shard("00000000")
found.append(threads())
StageTables(store).read("caption", "f", "00000000", 0)
found.append(threads())
ReleaseReader.open(sys.argv[1]).durations_seconds()
found.append(threads())
print([number - found[0] for number in found])
"""


def test_no_thread_of_arrows_pool_is_started(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    item = SourceItem(video_id="a", uri="s3://b/a.mp4", size_bytes=1, etag="e")
    refresh(store, iter([item]), None, "s3://b", 2, lambda shard_id: 1)
    StageTables(store).commit("caption", "f", "00000000", 0, ROWS, {})
    write_release(tmp_path, "may", ["a"], {"video": np.ones((1, 2), dtype=np.float16)}, durations={"a": 1.0})
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr
