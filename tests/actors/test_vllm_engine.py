"""The engine's own promises: time limits, death, closing, and arguments told apart."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from actors.caption import CaptionConfig, CaptionStage
from actors.describe_audio import DescribeAudioConfig, DescribeAudioStage
from actors.stage import PoolConfig
from actors.vllm_config import (
    SPEED_ONLY_ENGINE_ARGS,
    EngineConfig,
    SamplingConfig,
    check_engine_args,
    engine_fingerprint,
    known_engine_args,
    sampling_fingerprint,
)
from actors.vllm_engine import Generated, VllmEngine
from records.errors import Failure, FailureKind, FatalError, UserError
from records.outcomes import Caption
from tests.actors.clips import moving_noise, tone
from tests.actors.conftest import tiny_engine_config, with_sampling
from tests.actors.rows import make_row

LONG = SamplingConfig(max_tokens=3000)


def engine_processes() -> list[psutil.Process]:
    """The engine processes beneath this one."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "EngineCore" in " ".join(child.cmdline() or [child.name()])]


@pytest.mark.engine
def test_a_request_past_its_time_is_dropped_by_the_engine(qwen2_5_vl: CaptionStage) -> None:
    engine = cast(VllmEngine, qwen2_5_vl._engine)
    requests = [qwen2_5_vl.request(moving_noise(seed)) for seed in range(3)]
    answers = engine.generate_many(requests, LONG, 0.005)
    assert [cast(Failure, answer).kind for answer in answers] == [FailureKind.TIMEOUT] * 3
    assert engine.unfinished == 0
    (answer,) = engine.generate_many(requests[:1], SamplingConfig(max_tokens=4), 300.0)
    assert isinstance(answer, Generated)


@pytest.mark.engine
def test_a_short_call_overtakes_a_long_one_whose_rows_are_in_the_engine_at_once(qwen2_5_vl: CaptionStage) -> None:
    """No call waits for another's batch: its rows join those that the engine works on."""
    engine = cast(VllmEngine, qwen2_5_vl._engine)
    rows = [make_row(str(seed), frames=moving_noise(seed)) for seed in range(4)]
    with ThreadPoolExecutor(1) as thread:
        long = thread.submit(with_sampling(qwen2_5_vl, LONG), rows)
        while engine.unfinished < len(rows) and not long.done():
            time.sleep(0.001)
        assert engine.unfinished == len(rows), "the rows of a call went into the engine one after the other"
        (short,) = with_sampling(qwen2_5_vl, SamplingConfig(max_tokens=2))(rows[:1])
        assert not long.done(), "the short call waited for the long one"
        captions = [cast(Caption, outcome) for outcome in long.result()]
    assert cast(Caption, short).output_tokens == 2
    assert all(caption.output_tokens > 100 for caption in captions)


@pytest.mark.engine
def test_a_drawn_answer_repeats_with_its_seed_and_changes_with_it(qwen2_5_vl: CaptionStage) -> None:
    request = qwen2_5_vl.request(moving_noise(1))
    sampling = SamplingConfig(max_tokens=16, temperature=2.0)
    draws = [
        qwen2_5_vl._engine.generate_many([request], dataclasses.replace(sampling, seed=seed), 300.0)
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.engine
def test_a_value_that_vllm_does_not_take_is_the_users_mistake(qwen2_5_vl: CaptionStage) -> None:
    with pytest.raises(UserError, match="temperature"):
        qwen2_5_vl._engine.generate_many([qwen2_5_vl.request(moving_noise(1))], SamplingConfig(temperature=9.0), 300.0)


@pytest.mark.engine
def test_a_killed_engine_raises_and_can_be_closed_and_built_again(tiny_models: Callable[[str], Path]) -> None:
    before = {process.pid for process in engine_processes()}
    config = DescribeAudioConfig(engine=tiny_engine_config(tiny_models("qwen2_audio")))
    stage = DescribeAudioStage(config)
    engine = cast(VllmEngine, stage._engine)
    (core,) = [process for process in engine_processes() if process.pid not in before]
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(engine.generate_many, [stage.request(tone(3))] * 8, LONG, 300.0)
        while engine.unfinished == 0 and not call.done():
            pass
        core.kill()
        with pytest.raises(FatalError):
            call.result(timeout=60)
    with pytest.raises(FatalError):
        engine.generate_many([stage.request(tone(3))], LONG, 300.0)
    stage.close()
    stage.close()
    assert {process.pid for process in engine_processes()} == before
    with pytest.raises(FatalError, match="closed"):
        engine.generate_many([stage.request(tone(3))], LONG, 300.0)


@pytest.mark.engine
def test_an_engine_that_does_not_start_says_why(
    tiny_models: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny_engine_config(tiny_models("qwen2_audio"))
    too_small = {**config.engine_args, "kv_cache_memory_bytes": 1000}
    with pytest.raises(FatalError, match="did not start: ValueError: No available memory for the cache blocks"):
        VllmEngine(dataclasses.replace(config, engine_args=too_small), stage="describe_audio")


@pytest.mark.engine
def test_arguments_read_from_the_source_are_those_of_vllm() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    assert known_engine_args() == {field.name for field in dataclasses.fields(AsyncEngineArgs)}


def test_speed_only_arguments_exist() -> None:
    check_engine_args(dict.fromkeys(SPEED_ONLY_ENGINE_ARGS))


def test_a_misspelt_argument_names_the_nearest() -> None:
    with pytest.raises(UserError, match="'gpu_memory_utilisation'; the nearest is 'gpu_memory_utilization'"):
        check_engine_args({"max_num_seqs": 4, "gpu_memory_utilisation": 0.5})


def test_a_field_is_not_an_extra_argument() -> None:
    with pytest.raises(ValueError, match="dtype"):
        EngineConfig(model="m", engine_args={"dtype": "float16"})


@pytest.mark.parametrize("make", [CaptionConfig, DescribeAudioConfig])
@pytest.mark.parametrize(
    ("num_gpus", "engine", "fits"),
    [
        (0.0, {"tensor_parallel_size": 4}, True),
        (0.3, {}, True),
        (1.0, {}, True),
        (4.0, {"tensor_parallel_size": 4}, True),
        (4.0, {"tensor_parallel_size": 2, "engine_args": {"pipeline_parallel_size": 2}}, True),
        (2.0, {"engine_args": {"data_parallel_size": 2}}, True),
        (1.0, {"tensor_parallel_size": 2}, False),
        (0.5, {"tensor_parallel_size": 2}, False),
        (2.0, {}, False),
        (2.0, {"tensor_parallel_size": 2, "engine_args": {"pipeline_parallel_size": 2}}, False),
    ],
)
def test_an_engine_takes_the_gpus_of_its_worker(
    make: type[CaptionConfig] | type[DescribeAudioConfig], num_gpus: float, engine: dict[str, Any], fits: bool
) -> None:
    refused = pytest.raises(ValueError, match=rf"tensor_parallel_size .*pool\.num_gpus is {num_gpus:g}$")
    with contextlib.nullcontext() if fits else refused:
        make(engine=EngineConfig(model="m", **engine), pool=PoolConfig(num_gpus=num_gpus))


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ({"dtype": "float16"}, True),
        ({"quantization": "fp8"}, True),
        ({"max_model_len": 100}, True),
        ({"engine_args": {"kv_cache_dtype": "fp8"}}, True),
        ({"engine_args": {"an_argument_of_tomorrow": 1}}, True),
        ({"engine_args": {"max_num_seqs": 7, "gpu_memory_utilization": 0.3}}, False),
        ({"tensor_parallel_size": 2}, False),
        ({"limit_mm_per_prompt": {"video": 1}}, False),
    ],
)
def test_what_enters_the_fingerprint(change: dict[str, Any], matters: bool) -> None:
    config = EngineConfig(model="m")
    changed = dataclasses.replace(config, **change)
    assert (engine_fingerprint(changed) != engine_fingerprint(config)) is matters


def test_every_sampling_field_enters_the_fingerprint() -> None:
    assert sampling_fingerprint(SamplingConfig()).keys() == {f.name for f in dataclasses.fields(SamplingConfig)}


@pytest.mark.parametrize("change", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}])
def test_sampling_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sampling"):
        SamplingConfig(**change)
