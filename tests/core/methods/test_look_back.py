"""Look-back leaves the given frame alone where it is denoised from inverted noise, and nowhere else."""

import pytest
import torch

from i2v_core.diffusion.initialization import Initialization, InitializationName
from i2v_core.methods import LookBackMethod
from i2v_core.methods.look_back import LookBackOptions
from i2v_core.model.look_back import LookBack, LookBackConfig
from i2v_core.model.seams import BlockAddress
from tests.core.weights.small import seed


@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
@torch.no_grad()
def test_only_inversion_keeps_frame_0_as_it_came(initialization: InitializationName) -> None:
    module = seed(LookBack(LookBackConfig(depth=2, kernel=3, sites={"middle_0": 4})))
    method = LookBackMethod.of(module, LookBackOptions(initialization))
    assert method.initialization == Initialization(initialization)
    clip = torch.randn(1, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    updated = method.updates()(clip, BlockAddress("middle", 0))
    kept = [torch.equal(updated[:, :, frame], clip[:, :, frame]) for frame in range(3)]
    assert kept == [initialization == "inversion", False, False]
