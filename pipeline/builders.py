"""How workers build stages. Each function imports only the stage it builds: a decoder needs no torch."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.resolve import TINY_PREFIX, ResolvedModel
from models.tiny import ensure_tiny

if TYPE_CHECKING:
    from actors.decode import DecodeStage
    from actors.decode_config import DecodeConfig
    from actors.embed import EmbedConfig, EmbedStage
    from storage.fetch_config import FetchConfig


def loader_arguments(model: ResolvedModel) -> tuple[str, str | None]:
    """Name and revision for a loader on this machine: a tiny model is built where it is missing."""
    if model.name.startswith(TINY_PREFIX):
        return str(ensure_tiny(model.name.removeprefix(TINY_PREFIX))), None
    return model.path, model.revision


def build_decode(config: "DecodeConfig", fetch: "FetchConfig") -> "DecodeStage":
    """The decoder, which fetches what it decodes."""
    from actors.decode import DecodeStage
    from pipeline.metrics import CountedFetch
    from storage.fetch import Fetcher

    return DecodeStage(config, CountedFetch(Fetcher(fetch)), in_flight=fetch.in_flight)


def build_with_engine(stage: Callable[[Any], Any], config: Any, model: ResolvedModel) -> Any:  # noqa: ANN401 - any stage
    """A stage whose config holds the model in its `engine`."""
    name, revision = loader_arguments(model)
    return stage(replace(config, engine=replace(config.engine, model=name, revision=revision)))


def build_with_model(stage: Callable[[Any], Any], config: Any, model: ResolvedModel) -> Any:  # noqa: ANN401 - any stage
    """A stage whose config holds the model itself."""
    name, revision = loader_arguments(model)
    return stage(replace(config, model=name, revision=revision))


def build_embed(config: "EmbedConfig", reads: tuple[str, ...], model: ResolvedModel) -> "EmbedStage":
    """The encoder, told which stages a document is made of."""
    from actors.embed import EmbedStage

    name, revision = loader_arguments(model)
    return EmbedStage(replace(config, model=name, revision=revision), reads=reads)
