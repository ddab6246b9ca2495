"""Stage `caption`: what is seen in a clip, in words, by a Qwen-VL model through vLLM."""

from collections.abc import Mapping, Sequence
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
from records.media import Frames
from records.outcomes import Caption, Note

REVISION = 1
"""Raised when a change of this file changes captions."""

TICKS_PER_SECOND = 1_000_000
"""The frame rate told to the model: a frame's index is then its time in microseconds, exact at a variable rate too."""

DEFAULT_SYSTEM_PROMPT = (
    "You describe short videos for a recommender system. Say only what can be seen, plainly and precisely."
)
DEFAULT_PROMPT = (
    "Describe this video for people who have not seen it, so that it can be matched with those who would enjoy it. "
    "In one dense paragraph without headings say: what happens, in order; who or what is in it (people's age group, "
    "role, clothes and expression, animals, products), and how many; where and when it takes place; every readable "
    "on-screen text, caption or logo, quoted; how it is filmed and edited (close-ups, point of view, cuts, effects); "
    "its mood, and whether and how it is funny, touching, tense or instructive; what its maker seems to intend (to "
    "entertain, teach, review, sell, tell a story …) and for whom; and any trend, genre, film, game, artist, brand, "
    "sport, place or event that it shows or alludes to. Name the specific thing rather than the general one. Leave out "
    "what you cannot tell."
)

_TIMES_AS_INTERVAL = frozenset({"qwen2_5_vl"})
"""Model types that get one time step a clip (`second_per_grid_ts`)."""
_TIMES_AS_TEXT = frozenset({"qwen3_vl", "qwen3_vl_moe"})
"""Model types that read each frame's time in the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionConfig:
    """How clips are captioned.

    Raises:
        ValueError: The prompt is empty, the time limit not positive, or the pool's GPUs are not the engine's.
    """

    engine: EngineConfig
    """A Qwen2.5-VL or Qwen3-VL model and how vLLM runs it."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    prompt: str = DEFAULT_PROMPT
    """What the model is asked of each clip; it follows the video."""
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    """Empty: no system message, which some chat templates replace by their own."""
    chat_template: str | None = None
    """A Jinja template instead of the model's own."""
    request_timeout_seconds: float = 600.0
    """Limit for one clip from its submission to the engine to its last token; past it the row is a `timeout`."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(calls=4))
    """Clips in flight in one engine are `pool.calls` times `pool.batch_rows`; keep them above vLLM's `max_num_seqs`."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("caption: the prompt is empty")
        if self.request_timeout_seconds <= 0:
            raise ValueError("caption: request_timeout_seconds must be above 0")
        check_gpus("caption", self.engine, self.pool.num_gpus)


def fingerprint_fields(config: CaptionConfig) -> Mapping[str, object]:
    """What of the config can change a caption. The model's commit, with its chat template, is added by the planner."""
    return {
        "engine": engine_fingerprint(config.engine),
        "sampling": sampling_fingerprint(config.sampling),
        "prompt": config.prompt,
        "system_prompt": config.system_prompt,
        "chat_template": config.chat_template,
    }


class CaptionStage:
    """Captions the frames of rows; a row without frames gets an empty caption that says so.

    Args:
        config: Model, prompt and limits.
        engine: An engine to use instead of starting one; it is closed with the stage.

    Raises:
        UserError: The model is of no family that this stage knows, its chat template leaves the video out, or vLLM does
            not take an argument.
        FatalError: The engine did not start.
    """

    def __init__(self, config: CaptionConfig, *, engine: Engine | None = None) -> None:
        self._config = config
        self._model_type = model_type(config.engine)
        if self._model_type not in _TIMES_AS_INTERVAL | _TIMES_AS_TEXT:
            raise UserError(
                f"caption takes Qwen2.5-VL and Qwen3-VL models; {config.engine.model} is of type {self._model_type}"
            )
        self._prompt = render_prompt(
            config.engine,
            medium="video",
            text=config.prompt,
            system=config.system_prompt,
            chat_template=config.chat_template,
        )
        self._engine = engine or VllmEngine(with_media_limits(config.engine, {"image": 0, "video": 1}), stage="caption")

    def __call__(self, rows: Sequence[Row]) -> list[Caption | Failure]:
        """One caption or `Failure` for each row, in order.

        Raises:
            FatalError: The engine is dead.
        """
        requests = {index: self.request(row.frames) for index, row in enumerate(rows) if row.frames is not None}
        sampling, seconds = self._config.sampling, self._config.request_timeout_seconds
        answers = self._engine.generate_many(list(requests.values()), sampling, seconds) if requests else []
        captions = dict(zip(requests, map(_caption, answers), strict=True))
        return [captions.get(index, Caption(text="", note=Note.NO_VIDEO)) for index in range(len(rows))]

    def request(self, frames: Frames) -> EngineRequest:
        """The prompt and the frames with their times, as this model's processor takes them in vLLM."""
        pixels, times = frames.pixels, frames.times_seconds
        if len(pixels) == 1:
            # Qwen3-VL's processor refuses a lone frame; both families pad an odd count by the last frame anyway.
            pixels, times = np.repeat(pixels, 2, axis=0), times * 2
        if not pixels.flags.writeable:
            # Arrays out of the object store are read-only, and torch warns of every one.
            pixels = pixels.copy()
        seconds = len(frames.pixels) / frames.sampled_fps
        metadata = {
            "fps": float(TICKS_PER_SECOND),
            "frames_indices": [round(time * TICKS_PER_SECOND) for time in times],
            "total_num_frames": max(1, round(seconds * TICKS_PER_SECOND)),
            "duration": seconds,
        }
        if self._model_type in _TIMES_AS_TEXT:
            video = (pixels, {**metadata, "video_backend": "decord", "do_sample_frames": False})
            return EngineRequest(prompt=self._prompt, media={"video": [video]})
        # vLLM hands no metadata to this family's processor, which then takes every clip for 24 frames a second
        # (vllm/multimodal/parse.py, 0.29.0); as arguments of the processor the times do arrive.
        arguments = {"video_metadata": [metadata], "do_sample_frames": False}
        return EngineRequest(prompt=self._prompt, media={"video": [pixels]}, processor_kwargs=arguments)

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()


def _caption(answer: Generated | Failure) -> Caption | Failure:
    if isinstance(answer, Failure):
        return answer
    return Caption(
        text=answer.text.strip(),
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=len(answer.token_ids),
    )
