"""A listing that is told to stop leaves nothing on the temporary disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

LISTING = """
import sys, threading
from jobs.cli import run_command
from storage.catalog_refresh import refresh
from storage.source_items import SourceItem
from storage.stores import Store

def items():
    for number in range(60_000):  # more than stay in memory
        yield SourceItem(video_id=f"{number}", uri=f"s3://clips/{number}.mp4", size_bytes=1, etag="e")
    print("reached", flush=True)
    threading.Event().wait()

def main(argv):
    refresh(Store.open(argv[0]), items(), None, "s3://clips", 512, lambda shard_id: 1)
    return 0

sys.exit(run_command(main, sys.argv[1:]))
"""


def test_sigterm_removes_what_a_listing_has_set_aside(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    listing = subprocess.Popen(
        [sys.executable, "-c", LISTING, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        cwd=Path(__file__).parents[2],
    )
    assert listing.stdout is not None
    with listing.stdout:
        assert listing.stdout.readline() == b"reached\n"
    assert list(temporary.glob("catalog-refresh-*/incoming/*"))
    listing.send_signal(signal.SIGTERM)
    assert listing.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(temporary.iterdir()) == []
