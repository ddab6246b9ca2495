"""What Ray pushes to a driver: lines of the log, nothing on standard output."""

import logging

import pytest
from ray._private import worker

from pipeline.ray_notices import MOST_CHARACTERS, notices_to_log


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    caplog.set_level(logging.INFO, logger="pipeline.ray_notices")
    notices_to_log()


def push(message: str) -> None:
    """As Ray's thread does."""
    worker.print_to_stdstream({"lines": [message], "pid": "raylet", "is_err": False}, ignore_prefix=False)


def test_a_notice_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    push("The node with node id ab12 and address 10.0.0.1 has been marked dead.\n  It missed heartbeats.")
    assert caplog.messages == [
        "Ray: The node with node id ab12 and address 10.0.0.1 has been marked dead. It missed heartbeats."
    ]
    assert caplog.records[0].levelno == logging.WARNING
    push("memory " * 500)
    assert len(caplog.messages[1]) <= len("Ray: ") + MOST_CHARACTERS
    assert capsys.readouterr().out == ""


def test_what_is_tried_again_is_no_news(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    push("Task f failed. There are 1 retries remaining, so the task will be retried. Error: Trace\n  File\nValueError")
    assert caplog.messages == []
    assert capsys.readouterr().out == ""
