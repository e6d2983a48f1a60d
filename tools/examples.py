"""What the pictures of the help pages show: runs of shipped workflows with a few inputs changed."""

from dataclasses import dataclass, field
from typing import Any

Changes = dict[str, Any]  # "9.cfg" changes an input, "20" puts a node there


@dataclass(frozen=True)
class Row:
    """One run: its label, the workflow, what is changed in it, and which frames of the video to show."""

    label: str
    workflow: str
    changes: Changes = field(default_factory=dict)
    frames: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Canvas:
    """Some nodes of a workflow as the editor shows them, after a run if `run`."""

    workflow: str
    nodes: tuple[str, ...]
    changes: Changes = field(default_factory=dict)
    run: bool = False


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def rows(workflow: str, common: Changes, runs: dict[str, Changes]) -> tuple[Row, ...]:
    """Runs of one workflow by label, each with its own changes on top of the common ones."""
    return tuple(Row(label, workflow, {**common, **own}) for label, own in runs.items())


CAT = {"image": "chelsea.jpg", "text": "a cat, the camera zooms in"}
# animate_image with SamplerCustomAdvanced in KSampler's place
CUSTOM = {
    "7": node(
        "SamplerCustomAdvanced",
        noise=["20", 0],
        guider=["21", 0],
        sampler=["22", 0],
        sigmas=["23", 0],
        latent_image=["6", 2],
    ),
    "20": node("RandomNoise", noise_seed=0),
    "21": node("CFGGuider", model=["1", 0], positive=["6", 0], negative=["6", 1], cfg=2.0),
    "22": node("KSamplerSelect", sampler_name="euler"),
    "23": node("I2VSchedule", model=["1", 0], steps=20, spacing="auto", start_step=1000),
}
STORY = (0, 3, 5, 6, 7, 8, 9, 11, 14)

EXAMPLES: dict[str, tuple[Row, ...] | Canvas] = {
    "I2VLoadCheckpoint": (
        Row("i2v_demo", "animate_image"),
        Row("i2v_demo_image", "animate_image", {"1.checkpoint": "i2v_demo_image.safetensors"}),
    ),
    "I2VLoadAdapter": (
        Row("look_back", "long_video_lookback", {"3.image": CAT["image"], "5.text": CAT["text"], "7.frames": 8}),
        Row("temporal_noise_fusion", "animate_trip", {"2.image": CAT["image"], "5.text": CAT["text"]}),
        Row("image_retention", "animate_retention"),
    ),
    "I2VEncodeImage": rows(
        "animate_image",
        {"3.width": 256, "3.height": 256, "9.images": ["3", 1]},
        {fit: {"3.fit": fit} for fit in ("crop", "pad", "stretch")},
    ),
    "I2VShareImageTokens": Canvas(
        "animate_dynamicrafter_512",
        ("4", "20", "8"),
        {"20": node("I2VShareImageTokens", i2v_image=["4", 0]), "8.i2v_image": ["20", 0], "8.frames": 24},
    ),
    "I2VConditioning": rows(
        "animate_image",
        {},
        {
            "pan left": {"4.text": "a cat, the camera pans left"},
            "zoom out": {"4.text": "a cat, the camera zooms out"},
            "still": {"4.text": "a cat, still"},
        },
    ),
    "I2VWithoutImage": rows(
        "dual_guidance_any_model",
        {"11": node("CFGGuider", model=["4", 0], positive=["8", 0], negative=["8", 1], cfg=2.0)},
        {"with image": {}, "without image": {"11.positive": ["10", 0], "11.negative": ["10", 1]}},
    ),
    "I2VVideoLatent": rows(
        "long_video_lookback",
        {
            "20": node("I2VVideoLatent", frames=8, width=64, height=64, i2v_image=["4", 0]),
            "7.frames": 8,
            "9.latent_image": ["20", 0],
        },
        {"4 frames": {"20.frames": 4, "7.frames": 4}, "8 frames": {}},
    ),
    "I2VApplyLookBack": rows(
        "long_video_lookback",
        {"7.frames": 8, "3.image": CAT["image"], "5.text": "a cat, the camera pans left", "8.frames_at_once": 0},
        {
            "without": {"9.model": ["1", 0]},
            "hybrid": {},
            "add_noise": {"8.initialization": "add_noise"},
            "inversion": {"8.initialization": "inversion"},
        },
    ),
    "I2VApplyTRIP": rows(
        "animate_trip",
        {},
        {
            "none": {"7.fusion": "none"},
            "learned": {},
            "linear, 1 to 0": {"7.fusion": "linear"},
            "linear, 1 to 1": {"7.fusion": "linear", "7.last_lambda": 1.0},
        },
    ),
    "I2VApplyImageProjection": Canvas("animate_image_projection", ("2", "4", "5")),
    "I2VImageNoisePrior": rows(
        "image_prior_any_model",
        {"7.last_lambda": 0.2},
        {"without": {"9.model": ["1", 0]}, "end 0.6": {"7.end_percent": 0.6}, "end 1": {"7.end_percent": 1.0}},
    ),
    "I2VApplyImageRetention": rows(
        "animate_retention",
        {"8.image_scale": 0.5},
        {"strength 0": {"4.strength": 0.0}, "strength 0.5": {"4.strength": 0.5}, "strength 1": {}},
    ),
    "I2VDualGuidanceSampler": rows(
        "animate_retention",
        {},
        {f"image {scale:g}": {"8.image_scale": scale} for scale in (0.0, 0.5, 1.0, 1.5)},
    ),
    "I2VStepCache": rows(
        "animate_faster",
        {},
        {f"bound {bound:g}": {"7.bound": bound} for bound in (0.0, 0.2, 0.5, 2.0)},
    ),
    "I2VSchedule": rows(
        "animate_image",
        CUSTOM,
        {f"{steps} steps": {"23.steps": steps} for steps in (1, 5, 20)},
    ),
    "I2VDDIMSampler": rows(
        "animate_image",
        CUSTOM,
        {f"eta {eta:g}": {"22": node("I2VDDIMSampler", eta=eta, reference_end=False)} for eta in (0.0, 1.0)},
    ),
    "I2VAnalyticNoise": rows(
        "animate_image",
        CUSTOM,
        {
            "start 1000, random": {},
            "start 500, random": {"23.start_step": 500},
            "start 500, analytic": {
                "23.start_step": 500,
                "20": node("I2VAnalyticNoise", model=["1", 0], sigmas=["23", 0], noise_seed=0, variance=1.0),
            },
        },
    ),
    "I2VGuidanceRescale": rows(
        "animate_image",
        {"7.cfg": 8.0, "7.model": ["20", 0], "20": node("I2VGuidanceRescale", model=["1", 0], amount=0.0)},
        {f"cfg 8, amount {amount:g}": {"20.amount": amount} for amount in (0.0, 0.7, 1.0)},
    ),
    "I2VDecodeDualReference": Canvas("interpolate_tooncrafter", ("14", "15", "17")),
    "I2VContinueVideo": (
        Row("color_match 0", "story_in_two_parts", {"9.color_match": 0.0}, STORY),
        Row("color_match 1", "story_in_two_parts", {}, STORY),
    ),
    "I2VJoinClips": (
        Row("shared_frames 1", "story_in_two_parts", {}, (4, 5, 6, 7, 8, 9, 10, 11)),
        Row("shared_frames 0", "story_in_two_parts", {"15.shared_frames": 0}, (4, 5, 6, 7, 8, 9, 10, 11)),
    ),
    "I2VLoadClip": rows(
        "animate_image",
        {
            "20": node(
                "I2VLoadClip",
                video=["9", 0],
                start=0.0,
                frames=0,
                fps=0.0,
                stride=1,
                from_end=False,
                width=0,
                height=0,
                fit="crop",
            ),
            "21": node(
                "I2VCombineVideo", images=["20", 0], frame_rate=8.0, filename_prefix="", crf=17, save_output=True
            ),
        },
        {
            "frames 0": {},
            "stride 2": {"20.stride": 2},
            "start 0.25, frames 3": {"20.start": 0.25, "20.frames": 3},
            "from_end, frames 3": {"20.from_end": True, "20.frames": 3},
        },
    ),
    "I2VCombineVideo": Canvas("animate_image", ("8", "9"), run=True),
    "I2VMetrics": Canvas("measure_consistency", ("11", "12"), run=True),
    "I2VCompareClips": (Row("", "measure_consistency", {}, (-1,)),),
}
