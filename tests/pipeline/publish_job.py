"""`python -m tests.pipeline.publish_job`: a publish as a process of its own, to be killed."""

import argparse
import sys
from collections.abc import Sequence

from jobs.cli import console_and_logging, end_process, run_command
from tests.pipeline.publishing import publish
from tests.pipeline.stage_maker import publish_config


def main(argv: Sequence[str]) -> int:
    """One publish of the tables that `stage_maker` makes."""
    arguments = argparse.ArgumentParser(allow_abbrev=False)
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--release", required=True)
    arguments.add_argument("--part-bytes", type=int, required=True)
    options = arguments.parse_args(argv)
    console_and_logging(verbose=False)
    config = publish_config(part_bytes=options.part_bytes, row_group_rows=10, gallery_items=0)
    published = publish(options.output, options.release, config, on_ray=True)
    sys.stdout.write(f"{published.state}\n")
    return 0


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
