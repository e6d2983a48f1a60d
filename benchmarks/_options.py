"""The options that every benchmark takes, so that `python3 dev.py bench` can give the same ones to all."""

import argparse

import torch


def benchmark_options(
    description: str | None, *, runs: int = 3, threads: int | None = None, half: str | None = None
) -> argparse.ArgumentParser:
    """A parser with `--runs`, `--threads` and `--device`, and with `--dtype` where one is named.

    Args:
        threads: of PyTorch's; None takes as many as it does.
        half: the name of the dtype that is measured on CUDA; on a CPU it is float32.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--threads", type=int, default=threads or torch.get_num_threads())
    parser.add_argument("--device", default=device)
    if half is not None:
        parser.add_argument("--dtype", default=half if device == "cuda" else "float32")
    return parser


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the command line says, without the options of other benchmarks; PyTorch takes its threads from it."""
    options, _ = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    return options
