"""From a config to the graph's specs: models pinned, fingerprints made, each stage's constructor bound."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from actors import caption, decode_config, describe_audio, embed, tag_audio, transcribe
from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule, frame_size_rule
from actors.stage import PoolConfig
from models.resolve import ResolvedModel, resolve_model
from pipeline.builders import build_decode, build_embed, build_with_engine, build_with_model
from pipeline.config import RunConfig
from pipeline.spec import Modality, StageSpec
from records.errors import UserError
from records.fingerprint import fingerprint
from storage.fetch import FetchConfig

PROCESSOR_FILES = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def build_specs(config: RunConfig) -> dict[str, StageSpec]:
    """Every stage of the config's graph, upstream first. Asks the hub for the commits of its models.

    Raises:
        UserError: A model cannot be found, or a setting does not fit its model.
    """
    decode = _decode_config(config)
    specs = {"decode": _decode_spec(decode, config.fetch)}
    streams = {
        "video": _stream_fingerprint("video", decode),
        "audio": _stream_fingerprint("audio", decode),
    }
    for name, make in _MEDIA_STAGES.items():
        if name in config.stages:
            specs[name] = make(config, streams)
    if "embed" in config.stages:
        specs["embed"] = _embed_spec(config, {name: spec.fingerprint for name, spec in specs.items()})
    return specs


def _decode_config(config: RunConfig) -> DecodeConfig:
    """The decode config with the frame sizes that the captioner's processor would choose, unless they are set."""
    if "caption" not in config.stages or config.decode.frame_size != FrameSizeRule():
        return config.decode
    engine = config.caption.engine
    return replace(config.decode, frame_size=frame_size_rule(_processor_folder(engine.model, engine.revision)))


def _processor_folder(name: str, revision: str | None) -> Path:
    model = resolve_model(name, revision)
    if model.revision is None:
        return Path(model.path)
    folder: Path | None = None
    for file in PROCESSOR_FILES:
        try:
            folder = Path(hf_hub_download(model.path, file, revision=model.revision)).parent
        except LocalEntryNotFoundError as error:
            if file == "config.json":
                raise UserError(f"model {name}: {file} is not cached and the hub is out of reach") from error
        except EntryNotFoundError:
            continue
        except HfHubHTTPError as error:
            raise UserError(f"model {name}: the hub answered {' '.join(str(error).split())[:200]}") from error
    if folder is None:
        raise UserError(f"model {name} has none of {', '.join(PROCESSOR_FILES)}")
    return folder


def _stream_fingerprint(stream: Modality, decode: DecodeConfig) -> str:
    """What one stream depends on: a change of the frame rate leaves everything that listens as it is."""
    fields = decode.video_fingerprint() if stream == "video" else decode.audio_fingerprint()
    return fingerprint(
        stage=f"decode.{stream}", revision=decode_config.REVISION, fields=fields, model_commit=None, upstream={}
    )


def _decode_spec(config: DecodeConfig, fetch: FetchConfig) -> StageSpec:
    streams = {stream: _stream_fingerprint(stream, config) for stream in ("video", "audio")}
    return StageSpec(
        name="decode",
        fingerprint=fingerprint(
            stage="decode", revision=decode_config.REVISION, fields={}, model_commit=None, upstream=streams
        ),
        pool=config.pool,
        build=partial(build_decode, config, fetch),
        footer={"settings": json.dumps(asdict(config), default=str)},
    )


def _caption_spec(config: RunConfig, streams: Mapping[str, str]) -> StageSpec:
    return _media_spec(
        "caption",
        "video",
        streams,
        revision=caption.REVISION,
        fields=caption.fingerprint_fields(config.caption),
        model=resolve_model(config.caption.engine.model, config.caption.engine.revision),
        pool=config.caption.pool,
        build=partial(build_with_engine, caption.CaptionStage, config.caption),
    )


def _describe_audio_spec(config: RunConfig, streams: Mapping[str, str]) -> StageSpec:
    return _media_spec(
        "describe_audio",
        "audio",
        streams,
        revision=describe_audio.REVISION,
        fields=describe_audio.fingerprint_fields(config.describe_audio),
        model=resolve_model(config.describe_audio.engine.model, config.describe_audio.engine.revision),
        pool=config.describe_audio.pool,
        build=partial(build_with_engine, describe_audio.DescribeAudioStage, config.describe_audio),
    )


def _transcribe_spec(config: RunConfig, streams: Mapping[str, str]) -> StageSpec:
    return _media_spec(
        "transcribe",
        "audio",
        streams,
        revision=transcribe.REVISION,
        fields=transcribe.fingerprint_fields(config.transcribe),
        model=resolve_model(config.transcribe.model, config.transcribe.revision),
        pool=config.transcribe.pool,
        build=partial(build_with_model, transcribe.TranscribeStage, config.transcribe),
    )


def _tag_audio_spec(config: RunConfig, streams: Mapping[str, str]) -> StageSpec:
    return _media_spec(
        "tag_audio",
        "audio",
        streams,
        revision=tag_audio.REVISION,
        fields=tag_audio.fingerprint_fields(config.tag_audio),
        model=resolve_model(config.tag_audio.model, config.tag_audio.revision),
        pool=config.tag_audio.pool,
        build=partial(build_with_model, tag_audio.TagAudioStage, config.tag_audio),
    )


_MEDIA_STAGES: Mapping[str, Callable[[RunConfig, Mapping[str, str]], StageSpec]] = {
    "caption": _caption_spec,
    "transcribe": _transcribe_spec,
    "describe_audio": _describe_audio_spec,
    "tag_audio": _tag_audio_spec,
}


def _media_spec(
    name: str,
    modality: Modality,
    streams: Mapping[str, str],
    *,
    revision: int,
    fields: Mapping[str, object],
    model: ResolvedModel,
    pool: PoolConfig,
    build: Callable[[ResolvedModel], Any],
) -> StageSpec:
    return StageSpec(
        name=name,
        fingerprint=fingerprint(
            stage=name,
            revision=revision,
            fields=fields,
            model_commit=model.commit,
            upstream={"decode": streams[modality]},
        ),
        reads=("decode",),
        modality=modality,
        pool=pool,
        build=partial(build, model),
        footer={"model": model.name, "model_commit": model.commit, "settings": json.dumps(fields, default=str)},
    )


def _embed_spec(config: RunConfig, upstream: Mapping[str, str]) -> StageSpec:
    model = resolve_model(config.embed.model, config.embed.revision)
    reads = tuple(name for name in upstream if name != "decode")
    fields = embed.fingerprint_fields(config.embed)
    return StageSpec(
        name="embed",
        fingerprint=fingerprint(
            stage="embed",
            revision=embed.REVISION,
            fields=fields,
            model_commit=model.commit,
            upstream={name: upstream[name] for name in reads},
        ),
        reads=reads,
        reads_metadata=True,
        pool=config.embed.pool,
        build=partial(build_embed, config.embed, reads, model),
        footer={"model": model.name, "model_commit": model.commit, "settings": json.dumps(fields, default=str)},
    )
