"""vLLM's asynchronous engine on an event loop of its own, shared by every stage that generates text.

A call submits all its requests at once and waits for its own answers only; the calls of several threads interleave in
the engine, which so never waits for a batch to end.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import itertools
import logging
import multiprocessing
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from actors.engine_guard import EngineGuard
from actors.engine_log import EngineLog, one_line
from actors.vllm_config import EngineConfig, SamplingConfig, prepare_environment, vllm_arguments
from actors.vllm_prompt import model_type
from records.errors import Failure, FailureKind, FatalError, UserError

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

logger = logging.getLogger(__name__)

_CANCEL_SECONDS = 10.0
"""How long `close` waits for requests in flight to be given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One prompt with its media, as vLLM takes them."""

    prompt: str
    """Rendered chat template, with the model's own placeholder for each medium."""
    media: Mapping[str, object]
    """`multi_modal_data`: modality to medium."""
    processor_kwargs: Mapping[str, object] = field(default_factory=dict)
    """`mm_processor_kwargs` of this request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What the model answered to one request."""

    text: str
    finish_reason: str
    """`stop`, or `length` when the output or context limit cut it."""
    prompt_tokens: int
    """Tokens of the prompt, those that stand for media included."""
    token_ids: tuple[int, ...]
    """The tokens of the answer, an end token included where the model gave one."""


class Engine(Protocol):
    """What a stage asks of an engine."""

    def generate_many(
        self, requests: Sequence[EngineRequest], sampling: SamplingConfig, timeout_seconds: float
    ) -> list[Generated | Failure]:
        """One answer or `Failure` for each request, in order; see `VllmEngine`."""
        ...

    def close(self) -> None:
        """Frees the engine. Safe to call twice."""
        ...


class VllmEngine:
    """A vLLM engine. Constructed means ready: the weights are loaded.

    Args:
        config: Model and engine arguments.
        stage: The name that failures carry.

    Raises:
        UserError: vLLM does not take the model or an argument.
        FatalError: The engine's process did not start.
    """

    def __init__(self, config: EngineConfig, *, stage: str) -> None:
        self._stage = stage
        arguments = vllm_arguments(config, model_type(config))
        prepare_environment()
        # Here and not above: the import takes some 20 s, and reads the environment.
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            vllm_config = AsyncEngineArgs(**arguments).create_engine_config()
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"vLLM cannot load {config.model}: {one_line(error)}") from error
        self._max_model_len = int(vllm_config.model_config.max_model_len)
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        self._calls: set[asyncio.Task[list[Generated | Failure]]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"vllm-{stage}", daemon=True)
        self._thread.start()

        async def start() -> Any:  # noqa: ANN401 - vLLM ships no types that hold under strict checking
            return AsyncLLM.from_vllm_config(vllm_config, disable_log_stats=bool(arguments["disable_log_stats"]))

        self._guard = EngineGuard()
        log = EngineLog()
        try:
            with self._guard.marked():
                self._engine = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except (RuntimeError, TimeoutError, ValueError, OSError) as error:
            self._stop_loop()
            self._guard.close()
            reason = log.first_error() or one_line(error)
            raise FatalError(f"the engine for {config.model} did not start: {reason[:300]}") from error
        atexit.register(self.close)  # `__del__` would come too late: the loop's thread no longer runs then

    def generate_many(
        self, requests: Sequence[EngineRequest], sampling: SamplingConfig, timeout_seconds: float
    ) -> list[Generated | Failure]:
        """Submits all requests at once and waits for all of them. Called by several threads at once.

        Args:
            requests: What to generate from.
            sampling: How to choose tokens.
            timeout_seconds: Limit for each request from the end of its preprocessing; past it the engine drops the
                request.

        Returns:
            For each request, in order, the answer or a `Failure`: `too_long` where the prompt leaves no room in the
            context, `timeout`, or `engine_error` for media that the model's processor refuses.

        Raises:
            FatalError: The engine is dead or closed.
            UserError: vLLM does not take a value of `sampling`.
        """
        params = _sampling_params(sampling)
        with self._lock:
            if self._closed:
                raise FatalError("the engine is closed")
            future = asyncio.run_coroutine_threadsafe(self._call(requests, params, timeout_seconds), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise FatalError("the engine was closed while it worked") from None

    def render(self, request: EngineRequest) -> Mapping[str, Any]:
        """What the model would see of a request: vLLM's engine input, with expanded tokens and processed media."""
        return asyncio.run_coroutine_threadsafe(self._render(request), self._loop).result()

    @property
    def unfinished(self) -> int:
        """Requests that the engine holds, waiting or running."""
        return int(self._engine.output_processor.get_num_unfinished_requests())

    def close(self) -> None:
        """Gives up what is in flight and ends the engine's processes. Safe to call twice, and after the engine died."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._cancel_calls(), self._loop).result(_CANCEL_SECONDS)
        except TimeoutError:
            logger.warning("stage %s: requests were still in flight when the engine was shut down", self._stage)
        self._engine.shutdown()
        self._stop_loop()
        # Collects the ended processes, which would stay as zombies.
        multiprocessing.active_children()
        self._guard.close()
        atexit.unregister(self.close)

    async def _call(
        self, requests: Sequence[EngineRequest], params: "SamplingParams", timeout_seconds: float
    ) -> list[Generated | Failure]:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            answers = (self._answer(request, params, timeout_seconds) for request in requests)
            results = await asyncio.gather(*answers, return_exceptions=True)
        finally:
            self._calls.discard(call)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    async def _answer(
        self, request: EngineRequest, params: "SamplingParams", timeout_seconds: float
    ) -> Generated | Failure:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            rendered = await self._render(request)
        except VLLMClientError as error:
            # With the values of `sampling` checked before, only lengths are left to be refused.
            return self._failure(FailureKind.TOO_LONG, one_line(error))
        except Exception as error:  # noqa: BLE001 - whatever a processor raises over one clip's media is that row's failure
            self._check_alive(error)
            return self._failure(FailureKind.ENGINE_ERROR, f"the model's processor refused it: {one_line(error)}")
        tokens = len(rendered["prompt_token_ids"])
        if tokens >= self._max_model_len:
            message = f"a prompt of {tokens} tokens leaves no room in max_model_len {self._max_model_len}"
            return self._failure(FailureKind.TOO_LONG, message)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._generate(rendered, params)
        except TimeoutError:
            return self._failure(FailureKind.TIMEOUT, f"no answer within {timeout_seconds:g} s")
        except EngineDeadError as error:
            raise FatalError(f"the engine died: {one_line(error)}") from error
        except VLLMClientError as error:
            return self._failure(FailureKind.TOO_LONG, one_line(error))
        except EngineGenerateError as error:
            self._check_alive(error)
            return self._failure(FailureKind.ENGINE_ERROR, one_line(error))

    async def _render(self, request: EngineRequest) -> Mapping[str, Any]:
        prompt: dict[str, object] = {"prompt": request.prompt, "multi_modal_data": dict(request.media)}
        if request.processor_kwargs:
            prompt["mm_processor_kwargs"] = dict(request.processor_kwargs)
        (rendered,) = await self._engine.renderer.render_cmpl_async([prompt])
        return dict(rendered)

    async def _generate(self, rendered: Mapping[str, Any], params: "SamplingParams") -> Generated | Failure:
        last = None
        async for output in self._engine.generate(rendered, params, str(next(self._ids))):
            last = output
        if last is None or last.outputs[0].finish_reason in (None, "abort", "error"):
            return self._failure(FailureKind.ENGINE_ERROR, "the engine gave the request up")
        answer = last.outputs[0]
        return Generated(
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=len(last.prompt_token_ids),
            token_ids=tuple(answer.token_ids),
        )

    def _check_alive(self, error: Exception) -> None:
        """A dead engine is no row's fault, whatever error it showed itself by."""
        if self._engine.errored:
            raise FatalError(f"the engine died: {one_line(error)}") from error

    def _failure(self, kind: FailureKind, message: str) -> Failure:
        return Failure(stage=self._stage, kind=kind, message=message)

    async def _cancel_calls(self) -> None:
        await _cancel(self._calls)
        if self._engine.output_handler is not None:
            # Else it takes the shutdown for a death, and logs that as an error.
            self._engine.output_handler.cancel()

    def _stop_loop(self) -> None:
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_CANCEL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    await _cancel(asyncio.all_tasks() - {asyncio.current_task()})


async def _cancel(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels tasks and waits until they have ended."""
    ending = [task for task in tasks if task is not None]
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def _sampling_params(sampling: SamplingConfig) -> "SamplingParams":
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    try:
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed if sampling.temperature > 0 else None,
            stop=list(sampling.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except (ValueError, VLLMClientError) as error:
        raise UserError(f"sampling: {one_line(error)}") from error
