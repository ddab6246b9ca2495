"""A real S3 server for the commands, and one run of the demo for all who look at what it left."""

import os
import tempfile

import pytest

from tests.jobs.described import SHOWN_ROWS, Described, command, make_source, semaphores


@pytest.fixture(scope="session")
def described(tmp_path_factory: pytest.TempPathFactory) -> Described:
    """`jobs.demo` as `make demo` runs it, over its own clips and every kind of stream that lies beside them already."""
    demo = tmp_path_factory.mktemp("demo")
    source = demo / "clips"
    source.mkdir()
    make_source(source)
    titles = source / "titles.csv"
    titles.write_text("video_id,title,views\nmoving,A square that moves,12\nturned,A turned square,3\n")
    before = semaphores()
    with tempfile.TemporaryDirectory(prefix="t") as folder:  # short: the engines' sockets lie in it
        done = command("demo", "--folder", str(demo), "--rows", str(SHOWN_ROWS), TMPDIR=folder)
        # Theirs, for every later process: torch's cache, and onnxruntime's name for this machine.
        left = {name for name in os.listdir(folder) if not name.startswith(("torchinductor", ".ses"))}
    assert done.returncode == 0, done.stderr[-3000:]
    arguments = ["--source", str(source), "--metadata", str(titles), "--recipe", "tiny"]
    return Described(demo, source, demo / "output" / "tiny", arguments, done.stdout, left | (semaphores() - before))
