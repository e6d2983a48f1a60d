"""Diffusion mathematics on tensors and callables: schedule, prediction, guidance, samplers; no networks."""
