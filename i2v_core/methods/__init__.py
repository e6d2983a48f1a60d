"""The papers' methods: for each one file that says how it enters a network, a sampling and a training."""

from .image_projection import ImageProjectionMethod
from .image_retention import ImageRetentionMethod
from .look_back import LookBackMethod
from .method import METHODS, Method, NetworkCall, Training, register
from .trip import TripMethod

for method in (LookBackMethod, TripMethod, ImageRetentionMethod, ImageProjectionMethod):
    register(method)

__all__ = [
    "METHODS",
    "ImageProjectionMethod",
    "ImageRetentionMethod",
    "LookBackMethod",
    "Method",
    "NetworkCall",
    "Training",
    "TripMethod",
    "register",
]
