"""Captions are told apart by their motion, whatever else they say."""

import torch

from i2v_core.data.moving_crops import MOTIONS, PHRASES, SUBJECTS, MovingCrops, MovingCropsConfig, caption
from i2v_core.model.text_encoder import TextEncoder, TextEncoderConfig, initialize_text_encoder, word_ids
from i2v_core.training.text_encoder import pretrain_text_encoder


def test_the_pooled_vector_comes_to_name_the_motion() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextEncoderConfig(features=32, layers=1))
    initialize_text_encoder(encoder)
    source = MovingCrops(MovingCropsConfig())
    assert pretrain_text_encoder(encoder, source, steps=120, batch_size=64)["motion"] > 0.9
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        _, pooled = encoder.encode([caption(motion, generator) for motion in MOTIONS for _ in range(8)])
    distance = torch.cdist(pooled, pooled)
    same = torch.block_diag(*[torch.ones(8, 8)] * len(MOTIONS)).bool()
    assert distance[same].mean() < 0.7 * distance[~same].mean()


def test_the_words_of_the_captions_have_ids_of_their_own() -> None:
    """Words are hashed: those that matter must not fall together."""
    size = TextEncoderConfig().vocab_size
    phrases = " ".join(phrase for phrases in PHRASES.values() for phrase in phrases)
    motion = {word: word_ids(word, size)[0] for word in phrases.split()}
    assert len(set(motion.values())) == len(motion)
    subjects = {word for word in " ".join(SUBJECTS).split() if word not in motion}
    assert not {word_ids(word, size)[0] for word in subjects} & set(motion.values())
