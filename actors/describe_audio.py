"""Stage `describe_audio`: what is heard in a clip, in words, by Qwen2-Audio through vLLM."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from actors.stage import PoolConfig
from actors.vllm_config import (
    EngineConfig,
    SamplingConfig,
    check_gpus,
    engine_fingerprint,
    sampling_fingerprint,
    with_media_limits,
)
from actors.vllm_engine import Engine, EngineRequest, Generated, VllmEngine
from actors.vllm_prompt import model_type, render_prompt
from records.errors import Failure, UserError
from records.items import Row
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import AudioDescription, Note

REVISION = 1
"""Raised when a change of this file changes descriptions."""

MAX_WINDOW_SECONDS = 30.0
"""What Qwen2-Audio's feature extractor keeps; it cuts the rest off."""

DEFAULT_SYSTEM_PROMPT = "You describe the sound of short videos for a recommender system. Say only what can be heard."
DEFAULT_PROMPT = (
    "Describe what is heard, for people who have not heard it: music with its genre, instruments, tempo and mood, and "
    "whether it is sung; voices with their number, manner, emotion and language; sounds of people, animals, machines "
    "and places; how they follow each other; and what the sound seems meant to make one feel. One short paragraph."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeAudioConfig:
    """How sound is described.

    Raises:
        ValueError: The prompt is empty, a number out of range, or the pool's GPUs are not the engine's.
    """

    engine: EngineConfig
    """A Qwen2-Audio model and how vLLM runs it."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_tokens=256))
    prompt: str = DEFAULT_PROMPT
    """What the model is asked of each window; it follows the sound."""
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    """Empty: no system message, which some chat templates replace by their own."""
    chat_template: str | None = None
    """A Jinja template instead of the model's own."""
    window_seconds: float = MAX_WINDOW_SECONDS
    """Sound is described in stretches of this length, the last one shorter; at most `MAX_WINDOW_SECONDS`."""
    min_window_seconds: float = 1.0
    """A last stretch shorter than this is left out; a whole clip shorter than this is filled up with silence."""
    silence_dbfs: float = -60.0
    """A stretch whose root mean square is below this many decibels of full scale is silent and is not described.

    0 is a full-scale square wave; the rounding to 16 bits alone is near -101 (a step's width over the root of 12).
    """
    request_timeout_seconds: float = 600.0
    """Limit for one window from its submission to the engine to its last token; past it the row is a `timeout`."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(calls=4))
    """Windows in flight in one engine are `pool.calls` times `pool.batch_rows` times the windows of a clip."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("describe_audio: the prompt is empty")
        if not 0.1 <= self.min_window_seconds <= self.window_seconds <= MAX_WINDOW_SECONDS:
            raise ValueError(
                f"describe_audio needs 0.1 <= min_window_seconds <= window_seconds <= {MAX_WINDOW_SECONDS:g}"
            )
        if self.request_timeout_seconds <= 0:
            raise ValueError("describe_audio: request_timeout_seconds must be above 0")
        check_gpus("describe_audio", self.engine, self.pool.num_gpus)


def fingerprint_fields(config: DescribeAudioConfig) -> Mapping[str, object]:
    """What of the config can change a description. The model's commit is added by the planner."""
    return {
        "engine": engine_fingerprint(config.engine),
        "sampling": sampling_fingerprint(config.sampling),
        "prompt": config.prompt,
        "system_prompt": config.system_prompt,
        "chat_template": config.chat_template,
        "window_seconds": config.window_seconds,
        "min_window_seconds": config.min_window_seconds,
        "silence_dbfs": config.silence_dbfs,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of a clip's sound."""

    start_seconds: float
    end_seconds: float
    audio: Audio

    @property
    def label(self) -> str:
        """Its times, as the joined description shows them: `[0:30-1:00]`."""
        return f"[{_clock(self.start_seconds)}-{_clock(math.ceil(self.end_seconds))}]"


class DescribeAudioStage:
    """Describes the sound of rows; a row without sound, or with silence only, gets an empty description that says so.

    Args:
        config: Model, prompt and windows.
        engine: An engine to use instead of starting one; it is closed with the stage.

    Raises:
        UserError: The model is not a Qwen2-Audio, its chat template leaves the sound out, or vLLM does not take an
            argument.
        FatalError: The engine did not start.
    """

    def __init__(self, config: DescribeAudioConfig, *, engine: Engine | None = None) -> None:
        self._config = config
        kind = model_type(config.engine)
        if kind != "qwen2_audio":
            raise UserError(f"describe_audio takes Qwen2-Audio models; {config.engine.model} is of type {kind}")
        self._prompt = render_prompt(
            config.engine,
            medium="audio",
            text=config.prompt,
            system=config.system_prompt,
            chat_template=config.chat_template,
        )
        self._engine = engine or VllmEngine(with_media_limits(config.engine, {"audio": 1}), stage="describe_audio")

    def __call__(self, rows: Sequence[Row]) -> list[AudioDescription | Failure]:
        """One description or `Failure` for each row, in order. The windows of all rows are submitted together.

        Raises:
            FatalError: The engine is dead.
        """
        windows = [list(self.windows(row.audio)) if row.audio is not None else [] for row in rows]
        heard = [[window for window in of_row if not self._is_silent(window.audio)] for of_row in windows]
        requests = [self.request(window.audio) for of_row in heard for window in of_row]
        sampling, seconds = self._config.sampling, self._config.request_timeout_seconds
        answers = iter(self._engine.generate_many(requests, sampling, seconds) if requests else ())
        return [
            _describe(row, [(window, next(answers)) for window in of_row], several=len(all_of_row) > 1)
            for row, of_row, all_of_row in zip(rows, heard, windows, strict=True)
        ]

    def windows(self, audio: Audio) -> Iterator[Window]:
        """The stretches of a clip, half-open and without gaps, but for a last one that is too short."""
        size = round(self._config.window_seconds * AUDIO_RATE_HZ)
        shortest = round(self._config.min_window_seconds * AUDIO_RATE_HZ)
        total = len(audio.samples)
        for start in range(0, total, size):
            end = min(start + size, total)
            if start and end - start < shortest:
                return
            yield Window(
                start_seconds=start / AUDIO_RATE_HZ,
                end_seconds=end / AUDIO_RATE_HZ,
                audio=Audio(samples=audio.samples[start:end]),
            )

    def request(self, audio: Audio) -> EngineRequest:
        """The prompt and one window's sound."""
        samples = audio.to_float()
        missing = round(self._config.min_window_seconds * AUDIO_RATE_HZ) - len(samples)
        if missing > 0:
            # Below some 30 ms the encoder has no token left to hear with.
            samples = np.pad(samples, (0, missing))
        return EngineRequest(prompt=self._prompt, media={"audio": [(samples, AUDIO_RATE_HZ)]})

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()

    def _is_silent(self, audio: Audio) -> bool:
        mean_square = float(np.mean(np.square(audio.to_float(), dtype=np.float64)))
        return mean_square < math.pow(10.0, self._config.silence_dbfs / 10.0)


def _describe(
    row: Row, answers: Sequence[tuple[Window, Generated | Failure]], *, several: bool
) -> AudioDescription | Failure:
    """Joins one row's answers; the first failed window fails the row, as half a description would pass for a whole."""
    if not answers:
        return AudioDescription(
            text="", note=Note.SILENT if row.audio is not None and len(row.audio.samples) else Note.NO_AUDIO
        )
    described: list[tuple[Window, Generated]] = []
    for window, answer in answers:
        if isinstance(answer, Failure):
            return answer
        described.append((window, answer))
    texts = (
        f"{window.label} {answer.text.strip()}" if several else answer.text.strip() for window, answer in described
    )
    return AudioDescription(
        text=" ".join(texts),
        windows=len(described),
        truncated_windows=sum(answer.finish_reason == "length" for _, answer in described),
        prompt_tokens=sum(answer.prompt_tokens for _, answer in described),
        output_tokens=sum(len(answer.token_ids) for _, answer in described),
    )


def _clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
