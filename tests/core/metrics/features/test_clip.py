"""CLIP from every layout against the libraries that define it, with the right activation."""

from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from PIL import Image

from i2v_core.metrics.features.clip import load_clip, preprocess
from i2v_core.video import clip_to_frames, to_bytes
from tests.core.metrics.features.small_clip import open_clip_file, open_clip_weights, transformers_folder


@pytest.fixture
def clip() -> torch.Tensor:
    return 2 * torch.rand(3, 4, 40, 60, generator=torch.Generator().manual_seed(0)) - 1


def test_preprocessing_is_that_of_transformers(clip: torch.Tensor) -> None:
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pictures = [Image.fromarray(frame.numpy()) for frame in to_bytes(clip_to_frames(clip))]
    expected = processor(pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(preprocess(clip, 32), expected, rtol=0, atol=1e-5)
    upright = clip.transpose(-1, -2)
    torch.testing.assert_close(preprocess(upright, 32).shape, expected.shape)


def test_a_transformers_folder_gives_its_features(clip: torch.Tensor, tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "clip-small")
    encoder = load_clip(folder)
    model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values=preprocess(clip, 32)).pooler_output
        text = model.get_text_features(input_ids=torch.tensor([[0, 5, 3, 1]])).pooler_output[0]
    torch.testing.assert_close(encoder.encode_frames(clip), expected)
    torch.testing.assert_close(encoder.encode_text("ab"), text)
    assert encoder.name == "CLIP clip-small"


def test_long_captions_are_cut(tmp_path: Path) -> None:
    encoder = load_clip(transformers_folder(tmp_path / "clip"))
    torch.testing.assert_close(encoder.encode_text("a b " * 200), encoder.encode_text("a b " * 300))


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_file_gives_the_features_of_open_clip(clip: torch.Tensor, tmp_path: Path, quick_gelu: bool) -> None:
    encoder = load_clip(open_clip_file(tmp_path / "model.safetensors"), quick_gelu=quick_gelu)
    sizes = {"layers": 2, "width": 64, "head_width": 64, "patch_size": 8, "image_size": 32}
    model = open_clip.CLIP(32, sizes, {"width": 64, "heads": 1, "layers": 2}, quick_gelu=quick_gelu).eval()
    model.load_state_dict(open_clip_weights())
    with torch.inference_mode():
        expected = model.encode_image(preprocess(clip, 32))
        text = model.encode_text(open_clip.SimpleTokenizer()(["a cat"]))[0]
    torch.testing.assert_close(encoder.encode_frames(clip), expected)
    torch.testing.assert_close(encoder.encode_text("a cat"), text)


def test_openais_own_weights_get_quick_gelu_and_others_must_say(clip: torch.Tensor, tmp_path: Path) -> None:
    quick, exact = (
        load_clip(open_clip_file(tmp_path / "any.safetensors"), quick_gelu=value).encode_frames(clip)
        for value in (True, False)
    )
    assert (quick - exact).abs().max() > 1e-3
    openai = load_clip(open_clip_file(tmp_path / "ViT-B-32.pt", openai=True))
    torch.testing.assert_close(openai.encode_frames(clip), quick)
    for said, expected in ((True, quick), (False, exact)):
        folder = tmp_path / str(said)
        folder.mkdir()
        encoder = load_clip(open_clip_file(folder / "open_clip_model.safetensors", quick_gelu=said))
        torch.testing.assert_close(encoder.encode_frames(clip), expected)
    with pytest.raises(ValueError, match="does not tell its activation"):
        load_clip(tmp_path / "any.safetensors")


def test_without_a_file_the_sentence_names_file_source_and_hash(tmp_path: Path) -> None:
    for path in (None, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match=r"Give --clip .* clip-vit-base-patch32.* sha256: .*40d36571"):
            load_clip(path)


def test_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="model of type 'bert', expected 'clip'"):
        load_clip(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"no CLIP in OpenCLIP's layout"):
        load_clip(tmp_path / "other.pt")
