"""The exported files of a run, measured in their own runtimes."""

from kdx.report.blocks import Block, Table, Text
from kdx.report.contents import Export
from kdx.report.summary import Summary
from kdx.util.words import in_bytes, measured


def exports(found: list[Export], summary: Summary | None) -> list[Block]:
    """Return the tables of exported files, and of their latency; [] without any."""
    if not found:
        return []
    rows = [
        [each.file, each.format, each.runtime,
         in_bytes(each.bytes), _number(each.max_abs_error, ".2g"),
         _number(each.predictions_changed, ","), _number(each.images, ","),
         *(_metric(each, side, summary) for side in ("compact", "export"))]
        for each in found
    ]  # fmt: skip
    heading = ["file", "format", "runtime", "size", "largest error", "predictions changed", "n",
               f"{_heading(found, summary)}, student", "export"]  # fmt: skip
    times = [
        [each.file, str(t.batch), str(t.threads), _number(t.median_ms, ".3g"),
         *(_number(ms, ".3g") for ms in (t.p95_ms, t.torch_median_ms, t.torch_p95_ms)),
         f"{t.torch_median_ms / t.median_ms:.2f}" if t.torch_median_ms and t.median_ms else ""]
        for each in found for t in each.latency
    ]  # fmt: skip
    columns = ["file", "batch", "threads", "median (ms)", "95th percentile (ms)", "torch, median",
               "torch, 95th percentile", "times as fast"]  # fmt: skip
    tables: list[Block] = [Table(heading, rows, words=3)]
    return [*tables, Text("Latency, beside torch's."), Table(columns, times)] if times else tables


def _first_metric(each: Export, summary: Summary | None) -> str:
    metrics = each.metrics.get("export", {})
    first = summary.primary_metric if summary else ""
    return first if first in metrics else next(iter(metrics), "")


def _heading(found: list[Export], summary: Summary | None) -> str:
    name = next(filter(None, (_first_metric(each, summary) for each in found)), "metric")
    return summary.headings.get(name, name) if summary else name


def _metric(each: Export, side: str, summary: Summary | None) -> str:
    name = _first_metric(each, summary)
    value = each.metrics.get(side, {}).get(name)
    return "" if value is None else measured(name, value, summary.numbers if summary else ())


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
