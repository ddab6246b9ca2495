"""How workers build stages. Each function imports only the stage it builds: a decoder needs no torch."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.gpu_share import USABLE, share_of_gpu, with_share
from models.resolve import TINY_PREFIX, ResolvedModel
from models.tiny import ensure_tiny

if TYPE_CHECKING:
    from actors.decode import DecodeStage
    from actors.decode_config import DecodeConfig
    from actors.embed import EmbedConfig, EmbedStage
    from actors.vllm_config import EngineConfig
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


def import_engine() -> None:
    """Imports what engines need: half a minute in which another may start on the GPU that they share."""
    from actors.vllm_config import prepare_environment

    prepare_environment()
    import vllm.v1.engine.async_llm  # noqa: F401 - for the next who imports it


def build_with_engine(stage: Callable[[Any], Any], config: Any, model: ResolvedModel) -> Any:  # noqa: ANN401 - any stage
    """A stage whose config holds the model in its `engine`."""
    name, revision = loader_arguments(model)
    engine = replace(config.engine, model=name, revision=revision)
    if 0 < config.pool.num_gpus < 1:
        engine = sharing_engine(engine, config.pool.num_gpus, gpu_bytes())
    return stage(replace(config, engine=engine))


def sharing_engine(engine: "EngineConfig", num_gpus: float, total_bytes: int) -> "EngineConfig":
    """The engine with the memory that follows from its share of a GPU, as far as the user has said nothing else."""
    from models.weights import model_folder, weight_bytes

    args = engine.engine_args
    if "gpu_memory_utilization" in args:
        return engine
    if "kv_cache_memory_bytes" in args:
        return replace(engine, engine_args={"gpu_memory_utilization": USABLE * num_gpus, **args})
    weights = weight_bytes(model_folder(engine.model, engine.revision), engine.dtype)
    share = share_of_gpu(
        num_gpus=num_gpus, total_bytes=total_bytes, weight_bytes=weights, workspace_bytes=engine.workspace_bytes
    )
    return replace(engine, engine_args=with_share(args, share))


def gpu_bytes() -> int:
    """Memory of this worker's GPU, asked of the driver library: no context is made in this process."""
    from vllm.platforms import current_platform

    return int(current_platform.get_device_total_memory())


def build_with_model(stage: Callable[[Any], Any], config: Any, model: ResolvedModel) -> Any:  # noqa: ANN401 - any stage
    """A stage whose config holds the model itself."""
    name, revision = loader_arguments(model)
    return stage(replace(config, model=name, revision=revision))


def build_embed(config: "EmbedConfig", reads: tuple[str, ...], model: ResolvedModel) -> "EmbedStage":
    """The encoder, told which stages a document is made of."""
    from actors.embed import EmbedStage

    name, revision = loader_arguments(model)
    return EmbedStage(replace(config, model=name, revision=revision), reads=reads)
