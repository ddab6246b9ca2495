"""What outcomes say of themselves."""

import pytest

from records.outcomes import Caption, Note


@pytest.mark.parametrize(("finish_reason", "truncated"), [("length", True), ("stop", False)])
def test_a_caption_is_truncated_where_the_output_limit_cut_it(finish_reason: str, truncated: bool) -> None:
    assert Caption(text="a cat", finish_reason=finish_reason).truncated is truncated


def test_nothing_was_cut_where_nothing_was_generated() -> None:
    assert not Caption(text="", note=Note.NO_VIDEO).truncated
