"""Metadata of a training in its result's file."""

import json
from datetime import datetime, timezone

from ..data.clips import ClipData
from .config import TrainingConfig
from .config_file import resolved
from .log import Place


def result_metadata(config: TrainingConfig, place: Place, data: ClipData, *, averaged: bool) -> dict[str, str]:
    """Metadata of weights after `place.step` steps, plain or averaged."""
    from .. import __version__

    return {
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "i2v.method": config.method.name,
        "i2v.train_steps": str(place.step),
        "i2v.train_seconds": str(round(place.seconds)),
        "i2v.train_config": json.dumps(resolved(config)),
        "i2v.dataset_fingerprint": data.fingerprint(),
        "i2v.averaged": str(config.train.ema.decay if averaged else 0),
        "i2v.code_version": __version__,
    }
