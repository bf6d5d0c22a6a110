"""Tiny vision-language models of the real architectures with random weights, saved in the hub's file format. They say nothing sensible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_TURNS = (
    "{% for message in messages %}{{ message['role'] }}: {% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}IMAGE{% endif %}{% endfor %}"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def save_tokenizer(special: list[str], template: str) -> Any:
    """A byte-level tokenizer: every byte is a token, so every text can be said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({mark: number for number, mark in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", chat_template=template)
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def save_smolvlm(folder: Path) -> Path:
    """SmolVLM2's architecture: a SigLIP-like tower, pixel shuffle, a Llama."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    template = _TURNS.replace("IMAGE", "<image>")
    tokenizer = save_tokenizer(["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"], template)
    side = 64
    images = SmolVLMImageProcessor(do_image_splitting=False, size={"longest_edge": side}, max_image_size={"longest_edge": side})
    processor = SmolVLMProcessor(images, tokenizer, SmolVLMVideoProcessor(), image_seq_len=(side // 16 // 2) ** 2, chat_template=template)
    config = SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": 16,
        },
        text_config=_language(tokenizer, "llama"),
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return _save(SmolVLMForConditionalGeneration(config), processor, tokenizer, folder)


def save_qwen2(folder: Path) -> Path:
    """Qwen2-VL's architecture: a tower for pictures of any size, merged 2 x 2, and rotary positions in three directions."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    template = _TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    tokenizer = save_tokenizer(["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], template)
    pixels = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    processor = Qwen2VLProcessor(Qwen2VLImageProcessor(size=pixels), tokenizer, Qwen2VLVideoProcessor(size=pixels), chat_template=template)
    config = Qwen2VLConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        text_config=_language(tokenizer, None)
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}},
    )
    torch.manual_seed(0)
    return _save(Qwen2VLForConditionalGeneration(config), processor, tokenizer, folder)


def save_qwen3(folder: Path) -> Path:
    """Qwen3-VL's architecture: features of the tower's inner layers join the language model's first layers."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor

    template = _TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    tokenizer = save_tokenizer(["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], template)
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 16}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(size=pixels, patch_size=16), tokenizer, Qwen3VLVideoProcessor(size=pixels), chat_template=template
    )
    config = Qwen3VLConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        text_config=_language(tokenizer, None)
        | {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}},
    )
    torch.manual_seed(0)
    return _save(Qwen3VLForConditionalGeneration(config), processor, tokenizer, folder)


def save_gemma3(folder: Path) -> Path:
    """Gemma 3's architecture with vision: a SigLIP tower, pooled to a fixed number of tokens; sliding and full attention."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    template = _TURNS.replace("IMAGE", "<start_of_image>")
    tokenizer = save_tokenizer(["<start_of_image>", "<end_of_image>", "<image_soft_token>"], template)
    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        chat_template=template,
        extra_special_tokens=marks,
    )
    side = 64
    images = Gemma3ImageProcessor(size={"height": side, "width": side})
    processor = Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4)
    config = Gemma3Config(
        text_config=_language(tokenizer, None)
        | {"head_dim": 16, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": 16,
        },
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    torch.manual_seed(0)
    return _save(Gemma3ForConditionalGeneration(config), processor, tokenizer, folder)


def _language(tokenizer: Any, model_type: str | None) -> dict[str, Any]:
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return sizes | ({"model_type": model_type} if model_type else {})


def _save(model: Any, processor: Any, tokenizer: Any, folder: Path) -> Path:
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
