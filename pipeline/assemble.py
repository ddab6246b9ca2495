"""From a config to the graph's specs: models pinned, fingerprints made, each stage's constructor bound."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from actors import caption, decode_config, describe_audio, embed, tag_audio, transcribe
from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule, frame_size_rule
from actors.stage import PoolConfig
from models.resolve import ResolvedModel, resolve_model
from pipeline.builders import build_decode, build_embed, build_with_engine, build_with_model, import_engine
from pipeline.config import RunConfig
from pipeline.spec import Modality, StageSpec
from records.errors import UserError
from records.fingerprint import fingerprint
from storage.fetch_config import FetchConfig

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
    for name, stage in _media_stages(config).items():
        if name in config.stages:
            specs[name] = stage.spec(name, streams[stage.modality])
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


class _Named(Protocol):
    """A config that names a model: a stage's own, or that of its engine."""

    @property
    def model(self) -> str: ...

    @property
    def revision(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _MediaStage:
    """What the specs of stages on frames or sound differ in."""

    modality: Modality
    revision: int
    fields: Mapping[str, object]
    named: _Named
    pool: PoolConfig
    build: Callable[[ResolvedModel], Any]
    prepare: Callable[[], None] | None = None

    def spec(self, name: str, upstream: str) -> StageSpec:
        """The spec, with the model pinned; `upstream` is the fingerprint of the stream it takes."""
        model = resolve_model(self.named.model, self.named.revision)
        return StageSpec(
            name=name,
            fingerprint=fingerprint(
                stage=name,
                revision=self.revision,
                fields=self.fields,
                model_commit=model.commit,
                upstream={"decode": upstream},
            ),
            reads=("decode",),
            modality=self.modality,
            pool=self.pool,
            build=partial(self.build, model),
            prepare=self.prepare,
            footer=_footer(model, self.fields),
        )


def _media_stages(config: RunConfig) -> dict[str, _MediaStage]:
    video, audio, speech, tags = config.caption, config.describe_audio, config.transcribe, config.tag_audio
    return {
        "caption": _MediaStage(
            "video",
            caption.REVISION,
            caption.fingerprint_fields(video),
            video.engine,
            video.pool,
            partial(build_with_engine, caption.CaptionStage, video),
            import_engine,
        ),
        "transcribe": _MediaStage(
            "audio",
            transcribe.REVISION,
            transcribe.fingerprint_fields(speech),
            speech,
            speech.pool,
            partial(build_with_model, transcribe.TranscribeStage, speech),
        ),
        "describe_audio": _MediaStage(
            "audio",
            describe_audio.REVISION,
            describe_audio.fingerprint_fields(audio),
            audio.engine,
            audio.pool,
            partial(build_with_engine, describe_audio.DescribeAudioStage, audio),
            import_engine,
        ),
        "tag_audio": _MediaStage(
            "audio",
            tag_audio.REVISION,
            tag_audio.fingerprint_fields(tags),
            tags,
            tags.pool,
            partial(build_with_model, tag_audio.TagAudioStage, tags),
        ),
    }


def _footer(model: ResolvedModel, fields: Mapping[str, object]) -> dict[str, str]:
    return {"model": model.name, "model_commit": model.commit, "settings": json.dumps(fields, default=str)}


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
        footer=_footer(model, fields),
    )
