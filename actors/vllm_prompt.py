"""Prompts by a model's own chat template, through the Hugging Face processor."""

from collections.abc import Mapping

from actors.vllm_config import EngineConfig
from records.errors import UserError

_PARTS: Mapping[str, Mapping[str, str]] = {
    "video": {"type": "video"},
    # Qwen2-Audio's templates before June 2025 know sound by this key alone, later ones by the type too (source:
    # huggingface/transformers, pull request 38640). Nothing is read from it.
    "audio": {"type": "audio", "audio_url": ""},
}
"""Medium to what stands for it in a message."""


def model_type(config: EngineConfig) -> str:
    """The architecture that the model's own config names, such as `qwen3_vl`.

    Raises:
        UserError: There is no such model within reach.
    """
    # Imported where used: transformers takes seconds, and a config is read in processes that run no model.
    from transformers import AutoConfig

    try:
        loaded = AutoConfig.from_pretrained(config.model, revision=config.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config of model {config.model}: {_first_line(error)}") from error
    return str(loaded.model_type)


def render_prompt(config: EngineConfig, *, medium: str, text: str, system: str, chat_template: str | None) -> str:
    """One user message of a medium and a text, ready for the model's answer.

    Args:
        config: Whose processor and chat template.
        medium: `video` or `audio`; the template writes the model's placeholder for it.
        text: What is asked.
        system: The system message; empty for none.
        chat_template: A Jinja template instead of the model's own.

    Raises:
        UserError: The model has no chat template, or the template does not render or leaves the medium out.
    """
    from jinja2 import TemplateError
    from transformers import AutoProcessor

    messages: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": [_PARTS[medium], {"type": "text", "text": text}]})
    try:
        processor = AutoProcessor.from_pretrained(config.model, revision=config.revision)
        prompt = processor.apply_chat_template(
            messages, chat_template=chat_template, tokenize=False, add_generation_prompt=True
        )
    except (OSError, TypeError, ValueError, TemplateError) as error:
        raise UserError(f"cannot write a prompt for model {config.model}: {_first_line(error)}") from error
    # Transformers' processors name the token that stands for a medium; vLLM puts the medium where the prompt has it.
    placeholder = getattr(processor, f"{medium}_token", None)
    if not placeholder or str(prompt).count(placeholder) != 1:
        token = placeholder or f"token for {medium}"
        raise UserError(
            f"the prompt for model {config.model} must have one {token}: its chat template or text is not as the model "
            "needs it; give a chat_template"
        )
    return str(prompt)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
