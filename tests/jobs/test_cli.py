"""How a command ends that is told to end before it has begun to work, and what it says of wrong arguments."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.annotate import options_of
from jobs.cli import config_of
from pipeline.recipes import modern, paper
from records.errors import UserError
from tests.jobs.refused import check_refusal
from tests.pipeline.test_planning import ONE_GPU, planned

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


DIES_AT_ITS_END = """
import atexit, ctypes, sys
from jobs.cli import end_process
c = ctypes.CDLL(None)
c.__cxa_atexit(c.abort, None, None)  # as a static object of C++ whose end throws
atexit.register(print, "closed")
print("the summary")
{}
"""


def test_what_aborts_at_the_end_of_a_process_does_not_change_how_a_command_ended() -> None:
    ended = {
        end: subprocess.run(
            [sys.executable, "-c", DIES_AT_ITS_END.format(end)], capture_output=True, text=True, check=False
        )
        for end in ("end_process(3)", "sys.exit(3)")
    }
    assert ended["end_process(3)"].returncode == 3
    assert ended["end_process(3)"].stdout == "the summary\nclosed\n"
    assert ended["sys.exit(3)"].returncode == -signal.SIGABRT, "else nothing would have to be done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_summary_that_cannot_be_written_is_no_success() -> None:
    code = "from jobs.cli import end_process\nprint('the summary')\nend_process(0)"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": ""},
        )
    assert done.returncode == 1
    assert done.stderr == "error: OSError: [Errno 28] No space left on device\n"


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


INTERRUPTED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.{before})  # a shell's background jobs ignore it, and all that they start
sys.argv = ["-m"]  # as `python -m jobs.<verb>` has it while it imports
import jobs
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
except BaseException:
    pass  # as some library does where an import of its own fails
print("went on")
"""


def test_ctrl_c_among_the_imports_ends_a_command_whatever_catches_it() -> None:
    command = INTERRUPTED.format(before="default_int_handler")
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    library = command.replace("-m", "a script of somebody's")
    done = subprocess.run([sys.executable, "-c", library], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n"), "their Ctrl-C is theirs"


def test_what_was_told_to_ignore_ctrl_c_still_does() -> None:
    """As a shell's background jobs are."""
    ignoring = INTERRUPTED.format(before="SIG_IGN")
    done = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


PRINTS = """
from jobs.cli import end_process, run_command
def main(argv):
    for _ in range(100_000):
        print("a line of a table")
    return 0
end_process(run_command(main, []))
"""


def test_a_reader_that_has_enough_costs_one_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (
        1,
        "error: BrokenPipeError: [Errno 32] Broken pipe\n",
    )


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


def test_a_plans_pools_come_after_the_file_and_before_the_single_settings(tmp_path: Path) -> None:
    plan = planned({ONE_GPU: 4}, stages=("decode", "caption")).plan
    file = tmp_path / "config.yaml"
    file.write_text("caption: {pool: {max_actors: 9, batch_rows: 3}}\ndecode: {fps: 0.25}\n")
    settings = ["--set", "caption.pool.max_actors=2", "--set", "decode.fps=0.75"]
    alone, both, all_three = (
        config_of(options_of(["--output", "x", *arguments]), plan)
        for arguments in ([], ["--config", str(file)], ["--config", str(file), *settings])
    )
    pool = replace(modern().caption.pool, max_actors=4, accelerator_type="L4")
    assert (plan.recipe, alone.caption) == ("modern", replace(modern().caption, pool=pool))
    assert (both.caption.pool, both.decode.fps) == (replace(pool, batch_rows=3), 0.25)
    assert (all_three.caption.pool, all_three.decode.fps) == (replace(pool, batch_rows=3, max_actors=2), 0.75)
    assert alone.embed == modern().embed, "it was not planned"


def test_a_plans_recipe_counts_where_none_is_named(tmp_path: Path) -> None:
    plan = planned({ONE_GPU: 4}).plan
    (tmp_path / "config.yaml").write_text("recipe: paper\n")
    for arguments in (["--recipe", "paper"], ["--config", str(tmp_path / "config.yaml")]):
        config = config_of(options_of(["--output", "x", *arguments]), plan)
        assert config.caption.engine == paper().caption.engine
    with pytest.raises(UserError, match="--recipe is missing"):
        config_of(options_of(["--output", "x"]), replace(plan, recipe=""))
    with pytest.raises(UserError, match="--recipe is missing"):
        config_of(options_of(["--output", "x"]))
