"""Presets of every known model, as it was trained and is used: a named record each, with source and license."""

from dataclasses import dataclass, replace
from typing import Literal

from .diffusion.prediction import Prediction
from .diffusion.schedule import Betas, ScheduleConfig, Spacing, with_betas

FpsMeaning = Literal["fps", "frame_stride"]


@dataclass(frozen=True)
class Preset:
    """Everything about a model that its weights do not say.

    Attributes:
        name: key in `PRESETS`.
        prediction: what the network predicts.
        schedule: the noise it was trained on.
        frames, height, width: the clips it was trained on, sizes in pixels.
        fps: what its rate embedding is usually given; None if it has none.
        fps_meaning: frames per second (smaller means more motion) or frame stride (larger means more motion).
        steps, spacing, eta, guidance, guidance_rescale: the sampling its authors use.
        source: paper or repository.
        license: of the weights, as their authors state it.
        image_residual: the network estimates how frames differ from the given image, not the frames.
        interpolates: it was trained on the latents of a first and a last frame instead of one image in every frame.
    """

    name: str
    prediction: Prediction
    schedule: ScheduleConfig
    frames: int
    height: int
    width: int
    fps: int | None
    fps_meaning: FpsMeaning | None
    steps: int
    spacing: Spacing
    eta: float
    guidance: float
    guidance_rescale: float
    source: str
    license: str
    image_residual: bool = False
    interpolates: bool = False

    def on(self, betas: Betas) -> "Preset":
        """The same model on the noise of other betas."""
        return replace(self, schedule=with_betas(self.schedule, betas))


DYNAMICRAFTER = "DynamiCrafter, arXiv:2310.12190, github.com/Doubiiu/DynamiCrafter"
VIDEOCRAFTER = "VideoCrafter, arXiv:2310.19512 and arXiv:2401.09047, github.com/AILab-CVC/VideoCrafter"
RESEARCH_ONLY = "Apache-2.0 with an added clause: research purposes only"

_DYNAMICRAFTER_256 = Preset(
    name="dynamicrafter_256",
    prediction="eps",
    schedule=ScheduleConfig(),
    frames=16,
    height=256,
    width=256,
    fps=3,
    fps_meaning="frame_stride",
    steps=50,
    spacing="uniform",
    eta=1.0,
    guidance=7.5,
    guidance_rescale=0.0,
    source=DYNAMICRAFTER,
    license="Apache-2.0",
)
_DYNAMICRAFTER_512 = replace(
    _DYNAMICRAFTER_256,
    name="dynamicrafter_512",
    prediction="v",
    schedule=ScheduleConfig(zero_terminal_snr=True, rescale_base=0.7),
    height=320,
    width=512,
    fps=24,
    fps_meaning="fps",
    spacing="trailing",
    guidance_rescale=0.7,
)
_DYNAMICRAFTER_512_INTERP = replace(_DYNAMICRAFTER_512, name="dynamicrafter_512_interp", fps=10, interpolates=True)
_VIDEOCRAFTER2 = replace(
    _DYNAMICRAFTER_256,
    name="videocrafter2",
    schedule=ScheduleConfig(rescale_base=0.7),
    height=320,
    width=512,
    fps=28,
    fps_meaning="fps",
    guidance=12.0,
    source=VIDEOCRAFTER,
    license=RESEARCH_ONLY,
)
_STABLE_DIFFUSION_1_5 = replace(
    _DYNAMICRAFTER_256,
    name="stable_diffusion_1_5",
    height=512,
    width=512,
    fps=None,
    fps_meaning=None,
    eta=0.0,
    source="Stable Diffusion 1.5, arXiv:2112.10752",
    license="CreativeML Open RAIL-M",
)
_STABLE_DIFFUSION_2_1 = replace(
    _STABLE_DIFFUSION_1_5,
    name="stable_diffusion_2_1",
    prediction="v",
    height=768,
    width=768,
    source="Stable Diffusion 2.1, arXiv:2112.10752",
    license="CreativeML Open RAIL++-M",
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _DYNAMICRAFTER_256,
        _DYNAMICRAFTER_512,
        replace(
            _DYNAMICRAFTER_512,
            name="dynamicrafter_1024",
            schedule=ScheduleConfig(zero_terminal_snr=True, rescale_base=0.3),
            height=576,
            width=1024,
            fps=10,
        ),
        _DYNAMICRAFTER_512_INTERP,
        replace(
            _DYNAMICRAFTER_512_INTERP,
            name="tooncrafter",
            source="ToonCrafter, arXiv:2405.17933, github.com/Doubiiu/ToonCrafter",
        ),
        _VIDEOCRAFTER2,
        replace(
            _VIDEOCRAFTER2,
            name="videocrafter1_1024",
            schedule=ScheduleConfig(rescale_base=0.3),
            height=576,
            width=1024,
        ),
        replace(_VIDEOCRAFTER2, name="videocrafter1_512", schedule=ScheduleConfig(), fps=None, fps_meaning=None),
        replace(_VIDEOCRAFTER2, name="videocrafter1_i2v_512", fps=8),
        replace(
            _DYNAMICRAFTER_256,
            name="modelscope",
            fps=None,
            fps_meaning=None,
            eta=0.0,
            guidance=9.0,
            source="ModelScope text-to-video 1.7B, arXiv:2308.06571",
            license="CC-BY-NC-4.0",
        ),
        _STABLE_DIFFUSION_1_5,
        _STABLE_DIFFUSION_2_1,
        replace(_STABLE_DIFFUSION_2_1, name="stable_diffusion_2_1_base", prediction="eps", height=512, width=512),
        Preset(
            name="demo",
            prediction="x0",
            schedule=ScheduleConfig(zero_terminal_snr=True),
            frames=8,
            height=64,
            width=64,
            fps=None,
            fps_meaning=None,
            steps=20,
            spacing="trailing",
            eta=0.0,
            guidance=2.0,
            guidance_rescale=0.0,
            source="trained by this project on moving crops of CC0 and public-domain photographs",
            license="Apache-2.0",
            image_residual=True,
        ),
    )
}
