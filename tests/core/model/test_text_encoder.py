"""The small text encoder and its tokens."""

import pytest
import torch

from i2v_core.model.text_encoder import (
    END,
    START,
    TextEncoder,
    TextEncoderConfig,
    initialize_text_encoder,
    tokenize,
    word_ids,
)
from tests.core.weights.small import largest_difference, seed

CONFIG = TextEncoderConfig(vocab_size=50, features=16, layers=2, heads=2, max_length=8)


@pytest.fixture
def encoder() -> TextEncoder:
    return seed(TextEncoder(CONFIG))


def test_tokens_are_framed_and_padded_with_the_end() -> None:
    first, empty = tokenize(["Pan LEFT!", ""], CONFIG).tolist()
    assert first == [START, *word_ids("pan left", 50), END, END, END, END, END]
    assert empty == [START] + [END] * 7


def test_words_never_take_the_ids_of_start_and_end() -> None:
    ids = word_ids(" ".join(f"word{i}" for i in range(500)), 50)
    assert set(ids) == set(range(2, 50))


def test_words_beyond_the_length_are_ignored(encoder: TextEncoder) -> None:
    six = "one two three four five six"
    assert torch.equal(tokenize([six], CONFIG), tokenize([six + " seven"], CONFIG))
    assert tokenize([six], CONFIG)[0, -1] == END
    assert torch.equal(encoder.encode([six])[1], encoder.encode([six + " seven"])[1])


@torch.no_grad()
def test_features_depend_only_on_what_came_before(encoder: TextEncoder) -> None:
    short, long = encoder.encode(["zoom in slowly", "zoom in now please"])[0].chunk(2)
    assert largest_difference(short[:, :3], long[:, :3]) < 1e-6
    assert largest_difference(short[:, 3:], long[:, 3:]) > 1e-3


@torch.no_grad()
def test_the_pooled_vector_is_that_of_the_first_end(encoder: TextEncoder) -> None:
    features, pooled = encoder.encode(["pan left", "", "one two three four five six seven"])
    ends = [3, 1, 7]
    assert torch.equal(pooled, torch.stack([features[i, end] for i, end in enumerate(ends)]))


@torch.no_grad()
def test_texts_do_not_see_each_other(encoder: TextEncoder) -> None:
    together, alone = encoder.encode(["pan left", "zoom out"]), encoder.encode(["zoom out"])
    assert largest_difference(together[0][1:], alone[0]) < 1e-6
    assert largest_difference(together[1][1:], alone[1]) < 1e-6


@torch.no_grad()
def test_embeddings_may_be_given_instead_of_words(encoder: TextEncoder) -> None:
    tokens = tokenize(["pan left"], CONFIG)
    assert torch.equal(encoder.encode_embeddings(encoder.token_embedding(tokens)), encoder(tokens)[0])


def test_new_embeddings_are_small() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextEncoderConfig())
    initialize_text_encoder(encoder)
    assert 0.019 < encoder.token_embedding.weight.std().item() < 0.021


def test_gradients_reach_every_parameter_of_the_encoder(encoder: TextEncoder) -> None:
    features, pooled = encoder.encode(["one two three four five six"])
    (features.square().sum() + pooled.sum()).backward()
    unreached = {n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert not unreached
