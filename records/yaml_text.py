"""YAML that people write: as PyYAML reads it, except that a field given twice is an error and not the second one."""

from typing import IO, Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 - its stub is wrong
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, Any]]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def load_yaml(text: str | IO[str]) -> Any:  # noqa: ANN401 - whatever the text says
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: It is no YAML, or a mapping names a field twice.
    """
    return yaml.load(text, _Loader)
