"""Evaluation: clips in files, or a checkpoint that makes them, to numbers and a report."""

from .motion import MotionReport, evaluate_motion

__all__ = ["MotionReport", "evaluate_motion"]
