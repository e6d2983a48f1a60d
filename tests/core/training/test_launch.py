"""The launch files are what `accelerate` and the shells of two machines and a cluster understand."""

import shutil
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from i2v_core.model.video_unet import Block

LAUNCH = Path(__file__).parents[3] / "launch"


@pytest.mark.parametrize(("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP")])
def test_accelerate_reads_the_file(name: str, kind: str) -> None:
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert config.distributed_type == kind
    assert (config.num_machines, config.num_processes, config.mixed_precision) == (1, 4, "bf16")


def test_sharding_wraps_the_blocks_of_our_networks() -> None:
    settings = load_config_from_file(str(LAUNCH / "fsdp2.yaml")).fsdp_config
    assert settings["fsdp_version"] == 2
    assert settings["fsdp_transformer_layer_cls_to_wrap"] == Block.__name__
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(settings) <= known


@pytest.mark.parametrize("name", ["two_machines.sh", "slurm.sbatch"])
def test_the_scripts_are_valid_shell_and_start_our_command(name: str) -> None:
    shell = shutil.which("bash") or shutil.which("sh")
    if shell is None:
        pytest.skip("no shell")
    subprocess.run([shell, "-n", str(LAUNCH / name)], check=True)
    text = (LAUNCH / name).read_text()
    assert "torchrun \\" in text and '-m i2v_core train "$@"' in text


def test_the_readme_names_every_file() -> None:
    text = (LAUNCH / "README.md").read_text()
    assert all(path.name in text for path in LAUNCH.iterdir() if path.name != "README.md")
