"""What is said of an error."""

from records.errors import one_line


def test_a_message_is_one_line_and_not_endless() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 1000))) == 300
