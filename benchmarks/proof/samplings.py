"""How the variants are sampled: every row that a claim names, all with the same pictures, words and noise."""

from dataclasses import dataclass

from i2v_core.diffusion.initialization import InitializationName


@dataclass(frozen=True)
class Sampling:
    """One row.

    Attributes:
        variant: name in `variants.VARIANTS`.
        text, image: whether the words and the picture are given; without, "" and white.
        scales: of text and image, for dual guidance text first; None: the usual guidance by text.
        initialization: of the first frame, for look-back.
        second_part: the clip that follows from the last frame of a first one, with other words.
        few: for the cells of a grid; on fewer clips.
    """

    variant: str
    text: bool = True
    image: bool = True
    scales: tuple[float, float] | None = None
    initialization: InitializationName = "hybrid"
    second_part: bool = False
    few: bool = False


GRID = (0, 1, 2, 4)

SAMPLINGS: dict[str, Sampling] = {
    "look_back": Sampling("look_back"),
    "look_back_add_noise": Sampling("look_back_noised", initialization="add_noise"),
    "look_back_inversion": Sampling("look_back_noised", initialization="inversion"),
    "look_back_no_text": Sampling("look_back", text=False),
    "trip": Sampling("trip"),
    "trip_without_prior": Sampling("trip_without_prior"),
    "trip_linear": Sampling("trip_linear"),
    "dream": Sampling("dream", scales=(2, 1)),
    "dream_text": Sampling("dream", image=False),
    "dream_image": Sampling("dream", text=False),
    "projection": Sampling("projection"),
    "projection_global": Sampling("projection_global"),
    **{f"grid_{text}_{image}": Sampling("dream", scales=(text, image), few=True) for text in GRID for image in GRID},
    "dream_without_drops": Sampling("dream_undropped", scales=(4, 1), few=True),
    "dream_second_part": Sampling("dream", scales=(2, 1), second_part=True),
    "projection_detail": Sampling("projection_detail"),
    "projection_only": Sampling("projection_only"),
    "look_back_only": Sampling("look_back_only"),
    "convolution_only": Sampling("convolution_only"),
    "attention": Sampling("attention"),
    "masked_attention": Sampling("masked_attention"),
    "trip_end": Sampling("trip_end"),
    "trip_channel": Sampling("trip_channel"),
}
