"""What a command says of arguments that it refuses."""

from collections.abc import Callable

import pytest


def check_refusal(run: Callable[[], int], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one clear line that holds the message."""
    try:
        code = run()
    except SystemExit as leaving:  # argparse's own way out
        code = int(leaving.code or 0)
    said = capsys.readouterr().err
    assert code == 2, said
    assert message in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if "error: " in line]) == 1
    assert "usage: " not in said
