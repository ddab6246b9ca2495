"""How a command ends that is told to end before it has begun to work."""

import os
import signal
import subprocess
import sys

import pytest

WAITS = """
import signal, sys, threading
from jobs.cli import run_command
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and all that they start
def main(argv):
    print("begun", flush=True)
    threading.Event().wait(60)
    return 0
sys.exit(run_command(main, []))
"""


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_a_signal_ends_a_command_with_its_code_and_one_line(number: signal.Signals, word: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == f"{word}; the same command goes on from here\n"
