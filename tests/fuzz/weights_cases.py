"""Checkpoints and adapters of every layout, with headers, names, shapes and bytes that are not what they should be."""

import json
import pickle
import random
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from i2v_core.model.autoencoder import Autoencoder, AutoencoderConfig
from i2v_core.model.look_back import LookBack, LookBackConfig
from i2v_core.model.temporal_noise_fusion import TemporalNoiseFusion, TemporalNoiseFusionConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.weights import describe, is_adapter, load_adapter, load_checkpoint, read_checkpoint
from i2v_core.weights.companions.autoencoder import load_autoencoder
from i2v_core.weights.key_maps import layout_of, to_diffusers
from tests.fuzz.driver import Refused
from tests.fuzz.odd import NUMBERS, Raw, damaged, dumped, mutated

UNET = VideoUNetConfig(
    model_channels=32, channel_mult=(1,), num_res_blocks=1, attention_levels=(0,), head_dim=32, context_dim=32,
    temporal_convolution=False, init_attention=False,
)  # fmt: skip
VAE = AutoencoderConfig(channels=32, channel_mult=(1,), num_res_blocks=1)
DEEP = ("[" * 100_000, '{"a":' * 100_000)
HEADERS = (*DEEP, '{"__metadata__":{"i2v.kind":3}}', "{}", "", "null", '{"a":{"dtype":"F4"}}')
DTYPES = ("F32", "F16", "BF16", "F64", "I8", "U8", "BOOL", "F4", "F8_E8M0", "C64", "x", "")


@dataclass(frozen=True)
class Whole:
    """A good file: its tensors by name and its header's texts."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def prepare(folder: Path) -> list[Whole]:
    """One good file of each layout."""
    warnings.simplefilter("ignore")
    unet, vae = VideoUNet(UNET).state_dict(), Autoencoder(VAE).state_dict()
    below = {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
    theirs = {to_diffusers(name, layout_of(UNET)): tensor for name, tensor in unet.items()}
    config = {"preset": asdict(PRESETS["modelscope"]), "unet": asdict(UNET)}
    fusion, look_back = TemporalNoiseFusionConfig(features=16, heads=2), LookBackConfig(sites={"input_0_0": 8})
    adapters = {"temporal_noise_fusion": TemporalNoiseFusion(fusion), "look_back": LookBack(look_back)}
    described = [
        Whole(
            {f"{kind}.{name}": tensor for name, tensor in module.state_dict().items()},
            _header(kind, asdict(module.config)),  # type: ignore[call-overload]
        )
        for kind, module in adapters.items()
    ]
    return [
        *described,
        Whole(below, _header("checkpoint", config)),
        Whole(below, {}),
        Whole(theirs, {}),
        Whole(below | {f"first_stage_model.{name}": tensor for name, tensor in vae.items()}, {}),
    ]


def _header(kind: str, config: Mapping[str, Any]) -> dict[str, str]:
    return {"i2v.kind": kind, "i2v.format": "1", "i2v.config": json.dumps(config)}


def run(files: list[Whole], folder: Path, chance: random.Random) -> str:
    """Make one file that is not quite right and do all that is done with weights files."""
    whole, path = chance.choice(files), folder / "model.bin"
    makers = (_header_of, _header_of, _description, _description, _tensors, _tensors, _bytes, _pickle, _archive)
    content = chance.choice(makers)(whole, chance)
    path.write_bytes(content)
    try:
        _use(path, chance)
    except Exception as error:
        raise Refused(error) from error
    return "read"


def _use(path: Path, chance: random.Random) -> None:
    if is_adapter(path):
        load_adapter(path)
    elif chance.random() < 0.2:
        load_autoencoder(path)
    else:
        describe(read_checkpoint(path, described=True))
        load_checkpoint(path)


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header: str, data: bytes, length: int | None = None) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _header_of(whole: Whole, chance: random.Random) -> bytes:
    """Entries of the safetensors header changed, one by one or the whole."""
    header, data = _split(save(whole.tensors, whole.metadata or None))
    how = chance.randrange(4)
    if how == 0:
        return _joined(chance.choice(HEADERS), data, chance.choice((None, None, 3, 2**63, 10**6)))
    if how == 1:
        return _joined(dumped(mutated(header, chance), chance), data)
    for name in chance.sample([name for name in header if name != "__metadata__"], chance.choice((1, 3))):
        field = chance.choice(("shape", "dtype", "data_offsets"))
        numbers = [Raw(chance.choice((*NUMBERS, "4", "32"))) for _ in range(chance.randrange(5))]
        header[name][field] = chance.choice(DTYPES) if field == "dtype" else numbers
    return _joined(dumped(header, chance), data)


def _description(whole: Whole, chance: random.Random) -> bytes:
    """What `i2v.config` and the other texts say, changed."""
    metadata = dict(whole.metadata or _header("checkpoint", {"preset": {}, "unet": asdict(UNET)}))
    if chance.random() < 0.2:
        metadata[chance.choice(list(metadata))] = chance.choice(("", "1", "[" * 100_000, "look_back", "null", "2"))
    else:
        metadata["i2v.config"] = dumped(mutated(json.loads(metadata["i2v.config"]), chance), chance)
    metadata = {name: text.encode("utf-8", "replace").decode() for name, text in metadata.items()}
    return save(whole.tensors, metadata)


def _odd_tensors(whole: Whole, chance: random.Random) -> dict[str, Tensor]:
    """A few tensors of another rank, size, kind or name, missing, doubled or without numbers."""
    tensors = dict(whole.tensors)
    for name in chance.sample(list(tensors), min(len(tensors), chance.choice((1, 1, 2, 20)))):
        tensor = tensors.pop(name)
        odd = (
            torch.zeros(()), torch.zeros(3), torch.zeros(0, 4), torch.zeros(1, 1, 1, 1, 1, 1), tensor.long(),
            tensor.half(), tensor.bool(), tensor[:1].clone(), tensor.flatten(), tensor * float("nan"), tensor.double(),
            torch.full_like(tensor, 1e38) * 10, tensor[..., None],
        )  # fmt: skip
        number = chance.choice((10**8, 255, 256, 10**30, int("9" * 4000)))
        names = (name, name, name, name + "x", name.replace(".0.", f".{number}.", 1), "", "\u2028", name.upper())
        if chance.random() < 0.9:
            tensors[chance.choice(names)] = chance.choice(odd).contiguous()
    return tensors


def _tensors(whole: Whole, chance: random.Random) -> bytes:
    return save(_odd_tensors(whole, chance), whole.metadata or None)


def _bytes(whole: Whole, chance: random.Random) -> bytes:
    return damaged(save(whole.tensors, whole.metadata or None), chance)


def _saved(content: Any, folder: Path, old: bool = False) -> bytes:
    path = folder / "saved.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path.read_bytes()


class _Runs:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path.home() / "ran",)


def _pickle(whole: Whole, chance: random.Random) -> bytes:
    """PyTorch files, new and old, that hold odd things or are damaged."""
    odd: dict[str, Any] = _odd_tensors(whole, chance)
    name = chance.choice(list(odd))
    specials = (
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.eye(4).to_sparse(),
        lambda: torch.zeros(1).expand(10**5, 10**5),
        lambda: torch.zeros(4, 4, device="meta"),
        lambda: torch.zeros(4, dtype=torch.complex64),
        lambda: torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
        lambda: [[[]]],
        lambda: 10**5000,
        _Runs,
    )
    if chance.random() < 0.7:
        odd[name] = chance.choice(specials)()
    wrapped = chance.choice((odd, {"state_dict": odd}, {"module": odd}, [odd], {"state_dict": 3}, {3: odd}, 7))
    with _scratch() as folder:
        content = _saved(wrapped, folder, old=chance.random() < 0.3)
    if chance.random() < 0.1:
        content = pickle.dumps(chance.choice((_Runs(), {}, [1], "x")))
    return damaged(content, chance) if chance.random() < 0.4 else content


def _archive(whole: Whole, chance: random.Random) -> bytes:
    """A PyTorch file written again: compressed, with members missing, doubled or with zeros without end."""
    with _scratch() as folder:
        (folder / "plain.pt").write_bytes(_saved(whole.tensors, folder))
        target, how = folder / "again.pt", chance.randrange(4)
        method = zipfile.ZIP_DEFLATED if how == 0 else zipfile.ZIP_STORED
        with zipfile.ZipFile(folder / "plain.pt") as plain, zipfile.ZipFile(target, "w", method) as again:
            members = plain.namelist()
            for number, member in enumerate(members):
                text = plain.read(member)
                if how == 1 and chance.random() < 0.1:
                    continue
                if how == 2 and chance.random() < 0.1:
                    text = text[: len(text) // 2]
                again.writestr(member, text)
                if how == 3 and number == len(members) - 1:
                    again.writestr(zipfile.ZipInfo(members[0]), b"\0" * 100_000, zipfile.ZIP_DEFLATED)
        content = target.read_bytes()
    return damaged(content, chance) if chance.random() < 0.3 else content


def _scratch() -> Any:
    from contextlib import contextmanager
    from tempfile import TemporaryDirectory

    @contextmanager
    def folder() -> Any:
        with TemporaryDirectory() as place:
            yield Path(place)

    return folder()
