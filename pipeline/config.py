"""The one config of a run: every stage's own, and how the run goes. Recipes fill it, YAML or `--set` override it."""

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from actors.caption import CaptionConfig
from actors.decode_config import DecodeConfig
from actors.describe_audio import DescribeAudioConfig
from actors.embed import EmbedConfig
from actors.tag_audio import TagAudioConfig
from actors.transcribe import TranscribeConfig
from cluster.nodes import NodeGroup
from pipeline.breaker import BreakerConfig
from pipeline.gate import GateConfig
from pipeline.graph import GraphConfig
from pipeline.loop_config import LoopConfig
from pipeline.publish_config import PublishConfig
from pipeline.ray_session import LocalRayConfig
from records.errors import UserError
from records.outcomes import STAGES
from records.yaml_text import load_yaml
from storage.fetch_config import FetchConfig
from storage.stores import StoreConfig

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that a run can be told.

    Raises:
        ValueError: `stages` names something that is no stage.
    """

    caption: CaptionConfig
    describe_audio: DescribeAudioConfig
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    transcribe: TranscribeConfig = field(default_factory=TranscribeConfig)
    tag_audio: TagAudioConfig = field(default_factory=TagAudioConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    stages: tuple[str, ...] = STAGES
    """The graph: what a document is made of. `--stages` runs a part of it and changes nothing."""
    shard_size: int = 512
    """Items of a shard, when items are added to the catalog."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    local_ray: LocalRayConfig = field(default_factory=LocalRayConfig)
    node_groups: tuple[NodeGroup, ...] = ()
    """What the cluster's autoscaler may start; empty: the cluster stays as it is when the run begins."""
    publish: PublishConfig = field(default_factory=PublishConfig)

    def __post_init__(self) -> None:
        unknown = [stage for stage in self.stages if stage not in STAGES]
        if unknown:
            raise ValueError(f"stages: {unknown[0]!r} is none of {', '.join(STAGES)}")
        if "decode" not in self.stages:
            raise ValueError("stages: decode must be one of them")
        if self.shard_size < 1:
            raise ValueError("shard_size must be at least 1")
        names = [group.name for group in self.node_groups]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"node_groups: {name!r} is there twice")


def read_overrides(path: str) -> dict[str, Any]:
    """A YAML file of overrides, nested by field.

    Raises:
        UserError: It cannot be read or is no mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            loaded = load_yaml(file)
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(f"--config {path}: expected fields with values, found {type(loaded).__name__}")
    return loaded


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`key.sub=value` texts as nested overrides; values are YAML.

    Raises:
        UserError: A text has no `=` or its value is not YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UserError(f"--set {setting}: expected key=value")
        try:
            value = load_yaml(text)
        except yaml.YAMLError:
            value = text
        *path, last = key.strip().split(".")
        inner = nested
        for name in path:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set {setting}: {name} has a value already")
        inner[last] = value
    return nested


def apply_overrides(config: ConfigT, *overrides: Mapping[str, Any]) -> ConfigT:
    """A config, a dataclass of dataclasses, with some fields replaced; of several overrides the last counts.

    All are put together first, so that two fields that must fit each other may come from two places.

    Raises:
        UserError: A field does not exist (the message names the nearest), or its value has the wrong type or range.
    """
    nothing: Mapping[str, Any] = {}
    together = functools.reduce(_joined, overrides, nothing)
    if not together:
        return config
    merged = _merge(config, together, "")
    try:
        return TypeAdapter(type(config)).validate_python(merged)
    except ValidationError as error:
        raise UserError(_reason(error)) from None


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    both = {
        name: _joined(first[name], second[name])
        for name in first.keys() & second.keys()
        if isinstance(first[name], Mapping) and isinstance(second[name], Mapping)
    }
    return {**first, **second, **both}


def _merge(value: Any, overrides: Any, path: str) -> Any:  # noqa: ANN401 - any field's value
    """The dataclass as plain nested values, with the overrides in place."""
    if not dataclasses.is_dataclass(value):
        if isinstance(value, dict) and isinstance(overrides, dict):
            return {**value, **overrides}
        return overrides
    if not isinstance(overrides, Mapping):
        raise UserError(f"{path}: expected fields with values, not {overrides!r}")
    names = [one.name for one in dataclasses.fields(value)]
    for name in overrides:
        if name not in names:
            raise UserError(f"no setting {_join(path, str(name))!r}{_nearest(str(name), names, path)}")
    return {
        name: _merge(getattr(value, name), overrides[name], _join(path, name))
        if name in overrides
        else _plain(getattr(value, name))
        for name in names
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field's value
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _nearest(name: str, names: list[str], path: str) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {_join(path, near[0])!r}?"
    return f"; {path or 'the config'} has {', '.join(sorted(names))}"


def _reason(error: ValidationError) -> str:
    """The first of the errors, in one line: which setting, and what is wrong with it."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "unexpected_keyword_argument":
        return f"no setting {place!r}"
    if first["type"] == "value_error":
        said = f"{place.rpartition('.')[2]}: "  # many a config names itself, but not the stage that it is of
        return f"{place}: {message.removeprefix(said)}" if place else message
    return f"{place}: {message[0].lower()}{message[1:]}, not {first['input']!r}"
