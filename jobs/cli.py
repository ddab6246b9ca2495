"""What every command shares: arguments, logging, and one clear line for what the user did wrong."""

import argparse
import atexit
import difflib
import errno
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.logging import RichHandler

from pipeline.config import RunConfig, apply_overrides, parse_settings, read_overrides
from pipeline.recipes import RECIPES, recipe
from pipeline.run_plan import RunPlan
from records.errors import ReelscribeError, TransientError, UserError, one_line
from storage.sources import SourceFormat

USER_ERROR_EXIT = 2
FAILED_EXIT = 1
EXIT_CODES = """\
exit codes: 0 done, 1 the last line says why, 2 wrong arguments, 128 + the signal's number when told to stop
"""
"""Of the commands that have no others: the end of their help."""


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - as the class above
        """As ever, but what was given is kept for `error`."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(USER_ERROR_EXIT, f"error: {message}{self._meant()}; `{self.prog} --help` has all options\n")

    def _meant(self) -> str:
        """For each option that is not known the one that it may stand for."""
        options = (word.partition("=")[0] for word in self._given if word.startswith("--"))
        unknown = [option for option in options if option != "--" and option not in self._option_string_actions]
        near = {option: difflib.get_close_matches(option, self._option_string_actions, n=1) for option in unknown}
        return "".join(f", did you mean {found[0]} instead of {option}?" for option, found in near.items() if found)


def parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples and that takes no abbreviated option."""
    return _Parser(
        prog=f"python -m jobs.{name}",
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_config_arguments(arguments: argparse.ArgumentParser) -> None:
    """`--recipe`, `--config` and `--set`, which together make a `RunConfig`."""
    arguments.add_argument("--recipe", choices=list(RECIPES), help="a ready config to start from")
    arguments.add_argument("--config", metavar="FILE.yaml", help="fields that override the recipe's")
    arguments.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one field, such as decode.fps=1; may be repeated, and overrides --config",
    )


def add_source_arguments(arguments: argparse.ArgumentParser) -> None:
    """`--source` and how it is read."""
    arguments.add_argument(
        "--source",
        metavar="URI",
        help="a folder or prefix of videos, tars or Parquet files, or a list of URIs; may be left out once listed",
    )
    arguments.add_argument(
        "--format", choices=[str(name) for name in SourceFormat], help="what the source is, where it does not show it"
    )
    arguments.add_argument(
        "--columns", metavar="id=NAME,uri=NAME", help="columns of a list (id, uri, title) or Parquet (id, bytes, title)"
    )


def config_of(options: argparse.Namespace, plan: RunPlan | None = None) -> RunConfig:
    """The config that the options ask for.

    Args:
        options: From the command line.
        plan: Its pool sizes come after `--config` and before `--set`; its recipe where none is named.

    Raises:
        UserError: No recipe, an unknown field or a value of the wrong type.
    """
    overrides = read_overrides(options.config) if options.config else {}
    name = overrides.pop("recipe", None) if options.recipe is None else options.recipe
    if name is None and plan is not None:
        name = plan.recipe or None  # empty where its --config named one
    if name is None:
        raise UserError(f"--recipe is missing: choose one of {', '.join(RECIPES)}, or name one in --config")
    planned = plan.overrides if plan is not None else {}
    return apply_overrides(recipe(str(name)), overrides, planned, parse_settings(options.settings))


def positive(text: str) -> int:
    """An argument that is an integer above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def positive_number(text: str) -> float:
    """An argument that is a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def stage_names(text: str) -> tuple[str, ...]:
    """`a,b` as names of stages."""
    return tuple(stage.strip() for stage in text.split(","))


def shard_range(text: str) -> tuple[int, int | None]:
    """`A:B` as the first shard and the one behind the last; `:B` from the first, `A:` to the last there will be."""
    start, colon, stop = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (start, stop)):
        raise argparse.ArgumentTypeError(f"expected A:B, two numbers of shards, not {text!r}")
    first, behind = int(start or 0), int(stop) if stop else None
    if behind is not None and behind <= first:
        raise argparse.ArgumentTypeError(f"{text} holds no shard")
    return first, behind


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command; what the user did wrong becomes one line on stderr and exit code 2.

    SIGTERM ends it like Ctrl-C, also while Ray starts, whose own handler exits with the signal's number.
    """
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell's background jobs have it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return main(argv)
    except SystemExit as leaving:
        if leaving.code != signal.SIGTERM:
            raise
        print("terminated; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGTERM
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR_EXIT
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT
    except (TransientError, ReelscribeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED_EXIT
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
            raise
        return _lost_output(error)


def _lost_output(error: OSError) -> int:
    """Says that a pipe or a disk takes no more, likeliest standard output's; nothing is written there again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print(f"error: {one_line(error)}", file=sys.stderr)
    return FAILED_EXIT


def end_process(code: int) -> NoReturn:
    """Ends a command's process without the interpreter's own end, in which threads of Arrow and Ray still run.

    One that gives back a buffer of Python's then is ended in a destructor, and the process with SIGABRT: whoever
    submitted the job would be told that it failed after it had committed everything.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # all is done
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _lost_output(error)
    os._exit(code)


def console_and_logging(*, verbose: bool) -> Console:
    """A console on stderr, with the log going through it so that it does not tear the live display."""
    console = Console(stderr=True)
    level = logging.DEBUG if verbose else logging.INFO
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for package in ("jobs", "pipeline", "recsys", "storage", "actors", "models"):
        logging.getLogger(package).setLevel(level)
    return console
