"""The rows that benchmarks print: one measurement each, all of one shape, so that two runs compare line by line."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from _measure import Ratio

MIB = 2**20
COLUMNS = ("case", "measured", "value", "unit", "ratio", "to")


@dataclass(frozen=True)
class Row:
    """One measurement of one case.

    Args:
        value: in this unit.
        ratio: of the value to that of what `to` names; None where there is nothing to compare with.
    """

    case: str
    measured: str
    value: float
    unit: str = ""
    ratio: Ratio | float | None = None
    to: str = ""

    def cells(self) -> tuple[str, ...]:
        value = f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.3g}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}" if isinstance(self.ratio, float) else str(self.ratio)
        return self.case, self.measured, value, self.unit, ratio, self.to


def time_row(
    case: str, times: Sequence[float], others: Sequence[float] | None = None, to: str = "", measured: str = "time"
) -> Row:
    """The median of some seconds, against those of another case that were measured in turn with them."""
    return Row(case, measured, statistics.median(times), "s", None if others is None else Ratio(times, others), to)


def memory_row(
    case: str, held: float, other: float | None = None, to: str = "", measured: str = "memory above weights"
) -> Row:
    """Bytes, shown in MiB."""
    return Row(case, measured, held / MIB, "MiB", None if other is None else held / other, to)


def floor_row(case: str, least: float, times: Sequence[float]) -> Row:
    """The least seconds that the case could take here, as a share of what it takes."""
    return Row(case, "least possible time", least, "s", least / statistics.median(times), "its time")


def print_rows(rows: Iterable[Row]) -> None:
    """Print a Markdown table, row after row as they come."""
    for cells in (COLUMNS, ["---"] * len(COLUMNS)):
        print("| " + " | ".join(cells) + " |")
    for row in rows:
        print("| " + " | ".join(row.cells()) + " |", flush=True)
