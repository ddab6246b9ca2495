"""YAML that people write: nothing that they wrote is dropped without a word."""

import pytest
import yaml

from records.yaml_text import load_yaml


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "x: [{b: {a: 1, 'a': 1}}]", "1: x\n1: y"])
def test_a_field_that_is_there_twice_is_an_error_with_its_line(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"is there twice\n.*line \d"):
        load_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "a: {a: {a: 1}}",
        "[{a: 1}, {a: 2}]",
        "x: &x {a: 1}\ny: &y {<<: *x, a: 2}\nz: {<<: *y, a: 3}",
        "1: x\n'1': y",
    ],
)
def test_anything_else_is_what_yaml_makes_of_it(text: str) -> None:
    assert load_yaml(text) == yaml.safe_load(text)
