"""Nodes that train."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.training.log import read_log
from ..i2v_core.training.short_config import NAMES, ShortConfig, newest_preview, report
from ..i2v_core.video import read_video
from ..i2v_core.weights import read_adapter
from .host.folders import checkpoint_names, checkpoint_path
from .host.paths import checked_name
from .host.training import cache_folder, data_folder, nothing, plan, train, training_device
from .host.training_runs import digest, find_run
from .sockets import AdapterSocket, GivenAdapter
from .training_keys import check_keys
from .widgets import advanced, search_aliases

CONFIG = "TOML, as of python -m i2v_core train, for everything else: [train] gradient_accumulation_steps = 4"


class I2VTrainAdapter(io.ComfyNode):
    """Train an adapter on clips, in a process of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VTrainAdapter",
            display_name="Train I2V Adapter",
            category="I2V Diffusion/training",
            **search_aliases("fine-tune", "finetune", "train lora", "train motion module"),
            description="Trains what look-back, TRIP, image retention or an image projection add to a model, on clips "
            "of your own, in a process beside ComfyUI. Cancel keeps what was learned; run it again to go on.",
            is_output_node=True,
            inputs=[
                io.Combo.Input("method", options=list(NAMES), tooltip="What to train; each has an Apply node."),
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="The model to train beside, which the adapter then belongs to. look_back is for image "
                    "models, the others for video models.",
                ),
                io.String.Input(
                    "data",
                    default="",
                    tooltip="Folder of clips with captions (clip.mp4 and clip.txt) below the input folder. Empty: "
                    "moving crops of photographs, which the demo was trained on.",
                ),
                io.Int.Input(
                    "steps",
                    default=1000,
                    min=1,
                    max=999_999,
                    tooltip="Steps in all, earlier ones of this output_name included: raise it to train further.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=4096, tooltip="Clips of a step; memory grows with it."
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0001,
                    min=0.0,
                    max=1.0,
                    step=0.0001,
                    round=0.0000001,
                    tooltip="Of the adapter: about 0.0001 for large models, 0.001 for the demo. What the method trains "
                    "of the model itself learns at its usual share of it.",
                ),
                *_further_inputs(),
            ],
            outputs=[
                AdapterSocket.Output(
                    display_name="adapter", tooltip="For the Apply node of its method, in the same run."
                ),
                io.String.Output(
                    display_name="report", tooltip="What was done and where it lies; with dry_run the plan."
                ),
                io.Image.Output(
                    display_name="preview", tooltip="Frames of the newest preview; nothing if there was none."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        method: str,
        checkpoint: str,
        data: str,
        steps: int,
        batch_size: int,
        learning_rate: float,
        preview_every: int,
        output_name: str,
        config: str = "",
        dry_run: bool = False,
    ) -> io.NodeOutput:
        check_keys(config)
        brief = ShortConfig(
            method, checkpoint_path(checkpoint), Path(), checked_name(output_name, "output_name"), data_folder(data),
            steps, batch_size, learning_rate, preview_every, training_device(), cache_folder(),
        )  # fmt: skip
        run = find_run(output_name, digest(brief.config(config)))
        complete = replace(brief, folder=run.folder, name=run.name).config(config)
        if dry_run:
            text = plan(complete, run)
            return io.NodeOutput(nothing(), text, nothing(), ui={"text": (text,)})
        result = train(complete, run)
        adapter = GivenAdapter(read_adapter(result), result.name)
        text = "\n".join(filter(None, (report(complete, result, read_log(run.folder)), run.note)))
        if (preview := newest_preview(run.folder)) is None:
            return io.NodeOutput(adapter, text, nothing(), ui={"text": (text,)})
        shown: dict[str, Any] = {"images": [run.preview_item(preview)], "animated": (True,), "text": (text,)}
        return io.NodeOutput(adapter, text, _frames(preview), ui=shown)


def _further_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "preview_every",
            default=100,
            min=0,
            max=999_999,
            tooltip="Steps between two previews: the same picture, prompt and seed each time. 0 for none.",
        ),
        io.String.Input(
            "output_name",
            default="my_adapter",
            tooltip="Name of the file in models/model_patches. The same settings go on where they ended; others get a "
            "number behind the name.",
        ),
        advanced(
            io.String.Input("config", default="", multiline=True, optional=True, placeholder=CONFIG, tooltip=(
                "TOML that replaces or adds settings of the training, such as a base's learning rate, frames or the "
                "size of the adapter. Keys that name files are for the command line alone."
            ))
        ),
        io.Boolean.Input(
            "dry_run",
            default=False,
            optional=True,
            tooltip="On: measure a few steps, tell the plan with time and memory in report, and train nothing.",
        ),
    ]  # fmt: skip


def _frames(preview: Path) -> Tensor:
    return read_video(preview).frames / 255
