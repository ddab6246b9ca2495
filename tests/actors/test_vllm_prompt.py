"""The prompt has the model's placeholder for the medium once, whichever way its chat template tells media apart."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.describe_audio import DescribeAudioConfig, DescribeAudioStage
from actors.vllm_config import EngineConfig
from actors.vllm_prompt import render_prompt
from records.errors import UserError

QWEN2_AUDIO = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if CONDITION %}Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OLDER = QWEN2_AUDIO.replace("CONDITION", "'audio' in content or 'audio_url' in content or message['type'] == 'audio'")
"""Before June 2025: `message['type']` is nowhere set (huggingface/transformers, pull request 38640)."""
NEWER = OLDER.replace("message['type'] == 'audio'", "message['type'] == 'audio' or content['type'] == 'audio'")
BY_TYPE = QWEN2_AUDIO.replace("CONDITION", "content['type'] == 'audio'")


def prompt(model: Path, medium: str, chat_template: str | None = None, text: str = "What?") -> str:
    return render_prompt(
        EngineConfig(model=str(model)), medium=medium, text=text, system="Be brief.", chat_template=chat_template
    )


@pytest.mark.parametrize("template", [OLDER, NEWER, BY_TYPE], ids=["older", "newer", "by type"])
def test_every_template_of_qwen2_audio_writes_the_sound_once(tiny_models: Callable[[str], Path], template: str) -> None:
    assert prompt(tiny_models("qwen2_audio"), "audio", template) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nWhat?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_processors_own_template_does_too(tiny_models: Callable[[str], Path]) -> None:
    from transformers import AutoProcessor

    model = tiny_models("qwen2_audio")
    own = AutoProcessor.from_pretrained(str(model)).default_chat_template
    assert prompt(model, "audio", own) == prompt(model, "audio", NEWER)


@pytest.mark.parametrize(
    ("name", "medium", "placeholder"),
    [
        ("qwen2_audio", "audio", "<|AUDIO|>"),
        ("qwen2_5_vl", "video", "<|video_pad|>"),
        ("qwen3_vl", "video", "<|video_pad|>"),
    ],
)
def test_a_prompt_without_its_medium_is_refused(
    tiny_models: Callable[[str], Path], name: str, medium: str, placeholder: str
) -> None:
    model = tiny_models(name)
    assert prompt(model, medium).count(placeholder) == 1
    deaf = "{% for message in messages %}{{ message['content'][-1]['text'] }}{% endfor %}"
    for template, text in [(deaf, "What?"), (None, f"What is in {placeholder}?")]:
        with pytest.raises(UserError) as refused:
            prompt(model, medium, template, text)
        assert str(refused.value).startswith(f"the prompt for model {model} must have one {placeholder}: ")
        assert "\n" not in str(refused.value)


def test_a_model_without_a_token_for_the_medium_is_refused(tiny_models: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="must have one token for audio"):
        prompt(tiny_models("qwen3_vl"), "audio")


def test_a_template_for_text_alone_is_one_line(tiny_models: Callable[[str], Path]) -> None:
    text_only = "{% for message in messages %}{{ message['role'] + message['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="cannot write a prompt for model"):
        prompt(tiny_models("qwen2_audio"), "audio", text_only)


def test_a_stage_says_so_before_its_engine_starts(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    model = tmp_path / "deaf"
    shutil.copytree(tiny_models("qwen2_audio"), model)
    (model / "chat_template.jinja").write_text("{{ messages[-1]['content'][-1]['text'] }}")
    assert json.loads((model / "config.json").read_text())["model_type"] == "qwen2_audio"
    with pytest.raises(UserError, match=r"deaf must have one <\|AUDIO\|>"):
        DescribeAudioStage(DescribeAudioConfig(engine=EngineConfig(model=str(model))))
