"""A real S3 server for the commands, and one run of the main command for all who look at what it left."""

import os
import tempfile

import pytest

from tests.jobs.described import Described, command, make_source, semaphores


@pytest.fixture(scope="session")
def described(tmp_path_factory: pytest.TempPathFactory) -> Described:
    """One run over every kind of stream."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("described") / "out"
    make_source(source)
    titles = source / "titles.csv"
    titles.write_text("video_id,title,views\nmoving,A square that moves,12\nturned,A turned square,3\n")
    arguments = ["--source", str(source), "--metadata", str(titles), "--recipe", "tiny"]
    before = semaphores()
    with tempfile.TemporaryDirectory(prefix="t") as folder:  # short: the engines' sockets lie in it
        done = command("annotate", *arguments, "--output", str(output), TMPDIR=folder)
        # Theirs, for every later process: torch's cache, and onnxruntime's name for this machine.
        left = {name for name in os.listdir(folder) if not name.startswith(("torchinductor", ".ses"))}
    assert done.returncode == 0, done.stderr[-3000:]
    return Described(source, output, arguments, done.stdout, left | (semaphores() - before))
