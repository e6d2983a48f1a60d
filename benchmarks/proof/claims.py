"""What the papers say, put down before any run: who should exceed whom, in which measure, and by how much at least.

A claim compares two samplings clip by clip (same picture, words and noise), or says how large a number must be. The
least effect is what would matter to a user at this scale, not what happened to be found.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """`more` exceeds `less` in `measure` by at least `effect`.

    Attributes:
        experiment: row of the plan, such as "T1".
        source: where the paper says so.
        measure: name in `scores.MEASURES` (paired over clips), or "toyFVD" (of the sets; lower is better, so `more` is
            the worse one).
        more, less: names in `samplings.SAMPLINGS`, or of what `probes.py` measures on a network itself.
        effect: least difference that counts; a negative one says how much worse `more` may be.
    """

    experiment: str
    source: str
    text: str
    measure: str
    more: str
    less: str
    effect: float


CLAIMS: tuple[Claim, ...] = (
    Claim("L1", "look-back, Fig. 7", "look-back stays closer to the given image than 3D convolution alone",
          "ISIM avg", "look_back_only", "convolution_only", 0.005),
    Claim("L1", "look-back, Fig. 7", "3D convolution moves more smoothly than look-back alone",
          "jerk", "look_back_only", "convolution_only", 0.05),
    Claim("L1", "look-back, Fig. 7", "both together stay as close as look-back needs: closer than convolution alone",
          "ISIM avg", "look_back", "convolution_only", 0.005),
    Claim("L2", "look-back, App. A.2", "temporal attention jumps after the first frame, look-back does not",
          "jump", "attention", "look_back", 0.1),
    Claim("L2", "look-back, App. A.2", "masking the attention does not help: look-back's second frame is closer",
          "PSNR 2", "look_back", "masked_attention", 0.3),
    Claim("L3", "look-back, Fig. 7", "a clean first frame keeps closer to the image than DDIM inversion",
          "ISIM avg", "look_back", "look_back_inversion", 0.005),
    Claim("L3", "look-back, Fig. 7", "DDIM inversion keeps closer to the image than adding noise",
          "ISIM avg", "look_back_inversion", "look_back_add_noise", 0.005),
    Claim("L3", "look-back, Fig. 7", "a clean first frame leads to the true future better than adding noise",
          "PSNR 2-", "look_back", "look_back_add_noise", 0.3),
    Claim("L3", "look-back, Fig. 7", "a clean first frame leads to the true future better than DDIM inversion",
          "PSNR 2-", "look_back", "look_back_inversion", 0.3),
    Claim("L4", "look-back, Table 1", "with its prompt a clip keeps closer to the image than without",
          "ISIM avg", "look_back", "look_back_no_text", 0.005),
    Claim("L4", "(premise)", "the motion follows the prompt only if there is one",
          "followed", "look_back", "look_back_no_text", 0.2),
    Claim("T1", "TRIP, Table 6", "the prior (TRIP) keeps frames more consistent than none (TRIP-)",
          "F-Consistency 4", "trip", "trip_without_prior", 0.1),
    Claim("T1", "TRIP, Table 6", "learned fusion (TRIP) keeps frames more consistent than fixed weights (TRIP^W)",
          "F-Consistency 4", "trip", "trip_linear", 0.1),
    Claim("T1", "TRIP, Table 6", "fixed weights (TRIP^W) keep frames more consistent than no prior (TRIP-)",
          "F-Consistency 4", "trip_linear", "trip_without_prior", 0.1),
    Claim("T1", "TRIP, Table 6", "the prior brings videos closer to real ones",
          "toyFVD", "trip_without_prior", "trip", 0.0),
    Claim("T1", "TRIP, Table 6", "fixed weights take videos away from real ones",
          "toyFVD", "trip_linear", "trip_without_prior", 0.0),
    Claim("T1", "(5.1: blending toward a still clip)", "fixed weights take motion away",
          "motion", "trip", "trip_linear", 0.02),
    Claim("T1", "(facts 5.8)", "the prior brings the first four frames closer to the truth",
          "PSNR -4", "trip", "trip_without_prior", 0.3),
    Claim("T2", "TRIP, Table 5", "the image before the clip keeps frames more consistent than behind it (TRIP_TE)",
          "F-Consistency 4", "trip", "trip_end", 0.1),
    Claim("T2", "TRIP, Table 5", "the image before the clip keeps frames more consistent than on channels (TRIP_C)",
          "F-Consistency 4", "trip", "trip_channel", 0.1),
    Claim("D1", "DynamiCrafter, Fig. 2", "all visual tokens show the first frame better than the global one",
          "first frame", "projection", "projection_global", 0.5),
    Claim("D1", "DynamiCrafter, Fig. 2", "all visual tokens keep closer to the image than the global one",
          "ISIM avg", "projection", "projection_global", 0.005),
    Claim("D2", "DynamiCrafter, 3.2", "visual detail guidance shows the first frame better than tokens alone",
          "first frame", "projection_detail", "projection", 0.5),
    Claim("D3", "(check)", "training all weights follows the prompt better than training the projection alone",
          "followed", "projection", "projection_only", 0.0),
    Claim("V1", "DreamVideo, Table 2", "text and image together come closer to real videos than text alone",
          "toyFVD", "dream_text", "dream", 0.0),
    Claim("V1", "DreamVideo, Fig. 6", "with text and image the motion follows, with the image alone by chance",
          "followed", "dream", "dream_image", 0.2),
    Claim("V1", "DreamVideo, Fig. 6", "with the image the first frame is the image, with text alone it is not",
          "first frame", "dream", "dream_text", 3.0),
    Claim("V2", "DreamVideo, eq. 5", "a text scale of 2 follows the prompt more often than 0",
          "followed", "grid_2_1", "grid_0_1", 0.1),
    Claim("V2", "DreamVideo, eq. 5", "a text scale of 4 follows the prompt more often than 1",
          "followed", "grid_4_1", "grid_1_1", 0.05),
    Claim("V2", "DreamVideo, Fig. 3", "an image scale of 1 shows the image, 0 does not",
          "first frame", "grid_1_1", "grid_1_0", 3.0),
    Claim("V2", "DreamVideo, Fig. 3", "too large an image scale loses the image again",
          "first frame", "grid_1_1", "grid_1_4", 0.5),
    Claim("V2", "DreamVideo, Fig. 3", "contrast rises with the image scale",
          "contrast", "grid_1_4", "grid_1_1", 0.05),
    Claim("V2", "DreamVideo, Fig. 3", "brightness rises with the image scale",
          "brightness", "grid_1_4", "grid_1_1", 0.01),
    Claim("V3", "DreamVideo, 4.3", "without drops in training a text scale of 4 loses the image",
          "first frame", "grid_4_1", "dream_without_drops", 0.5),
    Claim("V4", "DreamVideo, 5.5", "a second part follows its prompt as often as the first, within 5 in 100",
          "followed", "dream_second_part", "dream", -0.05),
    Claim("T3", "TRIP, 3.3", "the fusion leans on the image more in the first frame than in the last",
          "reference attention", "fusion_first_frame", "fusion_last_frame", 0.01),
    Claim("T3", "TRIP, 3.3", "the fusion leans on the image more in noise than near the end",
          "reference attention", "fusion_noisy", "fusion_clean", 0.01),
    Claim("V5", "DreamVideo, 4.1", "at its start the retention branch changes nothing at all",
          "unchanged", "retention_at_start", "never", 1.0),
)  # fmt: skip
