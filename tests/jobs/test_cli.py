"""How a command ends that is told to end before it has begun to work, and what it says of wrong arguments."""

import os
import signal
import subprocess
import sys

import pytest

from jobs.annotate import options_of
from tests.jobs.refused import check_refusal

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


def test_ctrl_c_among_the_imports_is_no_traceback_and_an_error_there_still_is() -> None:
    for raised, said in (("KeyboardInterrupt()", "interrupted\n"), ("ImportError('no such thing')", "no such thing")):
        done = subprocess.run(
            [sys.executable, "-c", f"import jobs\nraise {raised}"], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert said in done.stderr
        assert ("Traceback" in done.stderr) == (raised != "KeyboardInterrupt()")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "tiny"], "arguments are required: --output; "),
        (["--recipe", "tiny", "--outptu=x"], "required: --output, did you mean --output instead of --outptu?"),
        (
            ["--output", "x", "--shard-rnage", "0:9"],
            "unrecognized arguments: --shard-rnage 0:9, did you mean --shard-range instead of --shard-rnage?",
        ),
        (["--output", "x", "extra"], "unrecognized arguments: extra; "),
        (["--output", "x", "--recipe", "huge"], "invalid choice: 'huge'"),
        (["--output", "x", "--limit", "0"], "--limit: must be a whole number of at least 1, not '0'"),
        (["--output", "x", "--limit", "many"], "--limit: must be a whole number of at least 1, not 'many'"),
        (["--output", "x", "--max-gpu-hours", "few"], "--max-gpu-hours: must be a number above 0, not 'few'"),
        (["--output", "x", "--max-gpu-hours", "inf"], "--max-gpu-hours: must be a number above 0, not 'inf'"),
        (["--output", "x", "--shard-range", "5:5"], "5:5 holds no shard"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refusal(lambda: bool(options_of(arguments)), message, capsys)
