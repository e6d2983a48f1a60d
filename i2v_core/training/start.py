"""The command line of this package as a file to start, for a Python that finds no modules by itself; see `process`."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    # Python puts this folder in front, where modules have names that libraries have too.
    sys.path[:] = [str(HERE.parents[1]), *(path for path in sys.path if Path(path or ".").resolve() != HERE)]
    runpy.run_module("i2v_core", run_name="__main__", alter_sys=True)
