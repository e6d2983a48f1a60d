"""The pack inside this process, loaded as the host loads it."""

import asyncio
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import dev


@pytest.fixture(scope="session")
def pack(host_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The pack's root module, under the name that the host gives it: its path.

    Its classes are not those of an absolute `i2v_core`: reach them through
    `importlib.import_module(".i2v_core.presets", pack.__name__)`.
    """
    # Threads of tiny networks mostly wait for one another.
    torch.set_num_threads(1)
    # In front, because our own `nodes` would otherwise hide the host's.
    sys.path.insert(0, str(host_folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's own are not ours to mend
        import comfy.cli_args

        comfy.cli_args.args.cpu = not torch.cuda.is_available()
        import folder_paths

        import nodes as host_nodes

        assert Path(host_nodes.__file__).parent == host_folder
        import comfy_api.latest  # noqa: F401
    for kind in ("output", "temp", "input"):
        getattr(folder_paths, f"set_{kind}_directory")(str(tmp_path_factory.mktemp(kind)))
    name = str(dev.ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, dev.ROOT / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def node_classes(pack: ModuleType) -> dict[str, Any]:
    """The pack's node classes by node id."""

    async def listed() -> list[Any]:
        return list(await (await pack.comfy_entrypoint()).get_node_list())

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}


@pytest.fixture(scope="session")
def core(pack: ModuleType) -> Callable[[str], Any]:
    """Modules of `i2v_core` as the pack sees them, by name."""
    return lambda name: importlib.import_module(f".i2v_core.{name}", pack.__name__)


@pytest.fixture(scope="session")
def host_module(pack: ModuleType) -> Callable[[str], Any]:
    """Modules of the host, by name; a function, because they exist only once the pack is loaded."""
    return importlib.import_module


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """The host runs every node like this."""
    with torch.inference_mode():
        yield


@dataclass(frozen=True)
class Saved:
    """A seeded checkpoint, as the core has it and as a file in the host's list."""

    name: str
    path: Path
    checkpoint: Any


@pytest.fixture(scope="session")
def save(core: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Saved]:
    """Make a tiny checkpoint; further arguments of the result change the U-Net's configuration."""
    import folder_paths

    folder = tmp_path_factory.mktemp("checkpoints")
    folder_paths.add_model_folder_path("checkpoints", str(folder))
    weights, contents = core("weights"), core("weights.contents")
    unet_config, text = core("model.video_unet").VideoUNetConfig, core("model.text_encoder")
    small = {"in_channels": 24, "out_channels": 12, "model_channels": 32, "channel_mult": (1, 2)}
    small |= {"num_res_blocks": 1, "attention_levels": (1,), "head_dim": 32, "context_dim": 64}
    small |= {"init_attention": False, "pooled_text_dim": 64}

    def make(name: str, preset: Any = "demo", projection: Any = None, autoencoder: Any = None, **changes: Any) -> Saved:
        with torch.random.fork_rng(), torch.inference_mode(False):
            torch.manual_seed(0)
            parts = {
                "unet": core("model.video_unet").VideoUNet(unet_config(**small | changes)),
                "image_projection": projection and core("model.image_projection").ImageProjection(projection),
                "autoencoder": contents.build_autoencoder(
                    autoencoder or core("model.autoencoder").AutoencoderConfig(32, (1, 2, 2), 1, 12, 0.5)
                ),
                "text_encoder": text.TextEncoder(text.TextEncoderConfig()),
            }
            for network in filter(None, parts.values()):
                for key, value in network.named_parameters():
                    if key.endswith(("alpha", "latents", "embeddings_table")):  # torch leaves these unset
                        torch.nn.init.normal_(value)
        preset = core("presets").PRESETS[preset] if isinstance(preset, str) else preset
        checkpoint = weights.Checkpoint(**parts, preset=preset, dialect="i2v", metadata={})
        path = folder / f"{name}.safetensors"
        weights.save_checkpoint(path, checkpoint)
        return Saved(path.name, path, checkpoint)

    return make


@dataclass(frozen=True)
class Loaded:
    """What Load I2V Checkpoint made of a seeded checkpoint."""

    saved: Saved
    model: Any
    clip: Any
    vae: Any
    clip_vision: Any
    image_projection: Any


@pytest.fixture(scope="session")
def load(node_classes: dict[str, Any]) -> Callable[[Saved], Loaded]:
    def loaded(saved: Saved) -> Loaded:
        with torch.inference_mode():
            return Loaded(saved, *node_classes["I2VLoadCheckpoint"].execute(saved.name).result)

    return loaded


@pytest.fixture(scope="session")
def tiny(save: Callable[..., Saved], load: Callable[[Saved], Loaded]) -> Loaded:
    """A tiny model like the demo's, on noise levels that float32 holds well."""
    return load(save("tiny", "modelscope"))


@dataclass(frozen=True)
class Inputs:
    """What goes into a sampler besides the model."""

    positive: Any
    negative: Any
    latent: dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def prepare(node_classes: dict[str, Any]) -> Callable[..., Inputs]:
    """From picture and prompt to the sampler's inputs, through our nodes and CLIP Text Encode."""
    import nodes as host_nodes

    def prepared(
        loaded: Loaded, prompt: str = "pan left", frames: int = 4, seed: int = 0, projection: Any = None
    ) -> Inputs:
        image = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(seed))
        texts = [host_nodes.CLIPTextEncode().encode(loaded.clip, text)[0] for text in (prompt, "")]
        encode = node_classes["I2VEncodeImage"].execute
        given = encode(loaded.vae, image, 32, 32, "crop", image_projection=projection).result[0]
        return Inputs(*node_classes["I2VConditioning"].execute(*texts, given, frames).result)

    return prepared


@pytest.fixture(scope="session")
def sample(pack: ModuleType) -> Callable[..., torch.Tensor]:
    """Run the host's KSampler and return the latents `t c h w`."""
    import nodes as host_nodes

    def sampled(model: Any, given: Inputs, steps: int = 2, cfg: float = 2.0, seed: int = 0) -> torch.Tensor:
        arguments = (seed, steps, cfg, "euler", "simple", given.positive, given.negative, given.latent)
        return host_nodes.KSampler().sample(model, *arguments)[0]["samples"]

    return sampled


@pytest.fixture(scope="session")
def look_back_adapter(
    core: Callable[[str], Any], node_classes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """Make a look-back adapter file and load it with the node.

    `scale` is how far its weights are from the identity; `shape` is model_channels, channel_mult and num_res_blocks of
    the U-Net, `unet` the weights that replace the base's, and further arguments change the configuration.
    """
    import folder_paths

    folder = tmp_path_factory.mktemp("model_patches")
    folder_paths.add_model_folder_path("model_patches", str(folder))
    look_back = core("model.look_back")

    def make(name: str, scale: float = 0.0, *, shape: Any = (32, (1, 2), 1), unet: Any = None, **changes: Any) -> Any:
        sites = look_back.find_sites(changes.get("placement", "stage"), *shape)
        with torch.inference_mode(False):
            module = look_back.LookBack(look_back.LookBackConfig(**{"sites": sites, **changes}))
            look_back.initialize_look_back(module)
            draw = torch.Generator().manual_seed(1)
            for weight in module.parameters():
                weight.data += scale * torch.randn(weight.shape, generator=draw) / weight[0].numel() ** 0.5
        core("weights.adapters").save_adapter(folder / f"{name}.safetensors", "look_back", module, unet=unet)
        return node_classes["I2VLoadAdapter"].execute(f"{name}.safetensors").result[0]

    return make
