"""Nodes that decide where sampling goes: noise levels, sampler, initial noise, and guidance on the raw prediction."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .host.rescale import with_guidance_rescale
from .host.samplers import AnalyticNoise, ModelSpacing, ddim_sampler, spaced_sigmas
from .widgets import advanced, search_aliases


class I2VSchedule(io.ComfyNode):
    """The noise levels that a model's authors sample on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        start = advanced(
            io.Int.Input(
                "start_step",
                default=1000,
                min=1,
                max=1000,
                tooltip="Timestep to start below; 1000 is the beginning. DynamiCrafter moves more from 940, best with "
                "Analytic Noise; much less hurts.",
            )
        )
        return io.Schema(
            node_id="I2VSchedule",
            display_name="I2V Schedule",
            category="I2V Diffusion/sampling",
            **search_aliases("scheduler", "timesteps", "trailing", "uniform"),
            description="The timesteps that the model's authors sample on, exactly, for SamplerCustomAdvanced.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled."),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip="Steps of the sampler. 50 is usual for DynamiCrafter, 20 to 30 are often enough; the demo "
                    "takes 20.",
                ),
                io.Combo.Input(
                    "spacing",
                    options=["auto", "trailing", "uniform"],
                    default="auto",
                    tooltip="auto is the model's own. trailing starts at the last timestep, as DynamiCrafter 512 and "
                    "1024 need; uniform (DynamiCrafter 256, VideoCrafter) may take a step more than asked for.",
                ),
                start,
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model: Any, steps: int, spacing: ModelSpacing = "auto", start_step: int = 1000) -> io.NodeOutput:
        return io.NodeOutput(spaced_sigmas(model, steps, spacing, start_step))


class I2VDDIMSampler(io.ComfyNode):
    """DDIM with the share of fresh noise that the model's authors use."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        end = advanced(
            io.Boolean.Input(
                "reference_end",
                default=False,
                tooltip="End like the published code, which washes out contrast at few steps; only to compare with it.",
            )
        )
        return io.Schema(
            node_id="I2VDDIMSampler",
            display_name="I2V DDIM Sampler",
            category="I2V Diffusion/sampling",
            **search_aliases("eta", "dynamicrafter sampler"),
            description="DDIM for SamplerCustomAdvanced, exact under dynamic rescale and zero terminal SNR, without "
            "NaN at any number of steps.",
            inputs=[
                io.Float.Input(
                    "eta",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of fresh noise in each step: 1 for DynamiCrafter and VideoCrafter, 0 for ModelScope "
                    "and the demo. 0 adds none.",
                ),
                end,
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, eta: float, reference_end: bool = False) -> io.NodeOutput:
        return io.NodeOutput(ddim_sampler(eta, reference_end))


class I2VAnalyticNoise(io.ComfyNode):
    """The initial noise for a start at an earlier timestep."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        variance = advanced(
            io.Float.Input(
                "variance",
                default=1.0,
                min=0.0,
                max=100.0,
                step=0.01,
                tooltip="Variance of the training videos' scaled latents about their mean; 1 is what Stable "
                "Diffusion's autoencoder aims at.",
            )
        )
        return io.Schema(
            node_id="I2VAnalyticNoise",
            display_name="Analytic Noise",
            category="I2V Diffusion/sampling",
            **search_aliases("initial noise", "conditional image leakage", "more motion"),
            description="Initial noise for sampling from an earlier start_step of I2V Schedule: what the noised videos "
            "of training look like there, instead of noise alone.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled."),
                io.Sigmas.Input("sigmas", tooltip="From I2V Schedule; their first is where sampling starts."),
                io.Int.Input(
                    "noise_seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video.",
                ),
                variance,
                io.Latent.Input(
                    "mean",
                    optional=True,
                    tooltip="Mean of the training videos' latents, of the size to sample; zero without it.",
                ),
            ],
            outputs=[io.Noise.Output(display_name="noise", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        sigmas: Tensor,
        noise_seed: int,
        variance: float = 1.0,
        mean: dict[str, Tensor] | None = None,
    ) -> io.NodeOutput:
        known = None if mean is None else mean["samples"]
        return io.NodeOutput(AnalyticNoise.of(model, sigmas, noise_seed, known, variance))


class I2VGuidanceRescale(io.ComfyNode):
    """Keep guidance from raising the contrast of the raw prediction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VGuidanceRescale",
            display_name="Guidance Rescale",
            category="I2V Diffusion/sampling",
            **search_aliases("rescale cfg", "dynamicrafter"),
            description="Draws the spread of the guided prediction towards the positive prompt's, over all frames of a "
            "clip together; for models that predict noise or v, also images.",
            inputs=[
                io.Model.Input("model", tooltip="Any model that predicts noise or v; also behind a LoRA loader."),
                io.Float.Input(
                    "amount",
                    default=0.7,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 changes nothing, 1 gives exactly the positive prompt's spread. DynamiCrafter 512 and "
                    "1024: 0.7; 256 and VideoCrafter: 0.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For a guider or KSampler.")],
        )

    @classmethod
    def execute(cls, model: Any, amount: float) -> io.NodeOutput:
        return io.NodeOutput(with_guidance_rescale(model, amount))
