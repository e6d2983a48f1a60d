"""Small seeded CLIP weights in the layouts in which the public ones are shared."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1,
          "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1}


def open_clip_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict in OpenCLIP's names: 32-pixel pictures in patches of 8, width 64, two layers, embeddings of 32."""
    import open_clip

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vision = {"layers": 2, "width": 64, "head_width": 64, "patch_size": 8, "image_size": 32}
        text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
        model = open_clip.CLIP(32, vision, text)
        # Wide enough that the two activations part.
        return {name: tensor * (3 if "mlp" in name else 1) for name, tensor in model.state_dict().items()}


def open_clip_file(path: Path, *, openai: bool = False, quick_gelu: bool | None = None) -> Path:
    """Write them; `openai` adds the marks of OpenAI's own files, `quick_gelu` the configuration beside the file."""
    weights = open_clip_weights()
    if openai:
        marks = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
        torch.save(weights | {name: torch.tensor(value) for name, value in marks.items()}, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    if quick_gelu is not None:
        config = {"model_cfg": {"embed_dim": 32, "quick_gelu": quick_gelu}}
        path.with_name("open_clip_config.json").write_text(json.dumps(config))
    return path


def transformers_folder(folder: Path) -> Path:
    """Write a CLIP model and its tokenizer as transformers does."""
    import transformers

    vocabulary = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abc"), "a", "b", "c"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = TEXT | {"vocab_size": len(vocabulary), "bos_token_id": 0, "eos_token_id": 1}
        config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=32)
        transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder
