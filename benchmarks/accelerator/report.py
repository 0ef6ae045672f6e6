"""The result of a run as plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

Cells = Sequence[str]


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the whole result: one table a step, or why there is none."""
    for name, step in result["steps"].items():
        yield ""
        if step["state"] != "done":
            yield f"{name}: {step['state']}: {step['reason']}"
            continue
        yield f"{name}, {step['seconds']:.1f} s"
        yield from TABLES[name](step["result"])


def _device(found: Any) -> Iterator[str]:
    host = found["host"]
    yield f"  {found['kind']} ({found['platform']}), {found['driver'] or 'no driver'}"
    yield f"  {found['platform_version']}"
    yield f"  {host['processor']}, {host['usable_cores']} cores, {host['versions']}"


def _ceilings(found: Any) -> Iterator[str]:
    rows = [
        (f"product, {name}", _number(rate, 1e12, "TFLOP/s"))
        for name, rate in found["product_flops_per_s"].items()
    ]
    rows.append(("copy on the device", _number(found["copy_bytes_per_s"], 1e9, "GB/s")))
    for way in ("host_to_device", "device_to_host"):
        rows += [
            (f"{way.replace('_', ' ')}, {kind}", _number(rate, 1e9, "GB/s"))
            for kind, rate in found[f"{way}_bytes_per_s"].items()
        ]
    for name, nodes in (("launch", 1), ("graph", found["graph"]["nodes"])):
        one = found[name]
        times = f"{1e3 * one['in_turn_ms']:.1f} µs in turn, alone {_latency(one)}"
        rows.append((f"kernels: {nodes}", times))
    yield from _table(("", ""), rows)


def _compile(found: Any) -> Iterator[str]:
    yield f"  backend {found['backend']}, {found['wall_s']:.1f} s in all"
    rows = [(part, f"{seconds:.1f}") for part, seconds in found["seconds"].items()]
    yield from _table(("part", "s"), rows)
    if found["bound"]:
        most = found["bound"]["events_per_s"]
        yield f"  no program exceeds {most:,.0f} events/s here"


def _scores(found: Any) -> Iterator[str]:
    rows = [
        (bucket, f"{error:.1e}", "WRONG" if bucket in found["wrong"] else "")
        for bucket, error in found["errors"].items()
    ]
    yield from _table(("bucket", f"error, at most {found['tolerance']:g}", ""), rows)


def _speed(found: Any) -> Iterator[str]:
    rows = []
    for bucket, one in found.items():
        device, host = one["device"], one["host"]
        rate = f"{device['events_per_s']:,.0f}"
        in_turn = f"{device['in_turn_ms']:.3f}"
        times = in_turn, _latency(device), _latency(host)
        rows.append((bucket, rate, *times, f"{host['events_per_s']:,.0f}"))
    headings = "events/s", "in turn, ms", "alone, p50 / p99", "with copies, p50 / p99"
    yield from _table(("bucket", *headings, "events/s"), rows)


def _engine(found: Any) -> Iterator[str]:
    yield f"  ready after {found['until_ready_s']:.1f} s"
    rows = []
    for one in found["loads"]:
        calls = ", ".join(
            f"{name}: {each['calls']} × {each['ticks_a_call']:.0f}"
            for name, each in one["buckets"].items()
        )
        bound = f"{one['of_bound']:.1%}" if "of_bound" in one else ""
        rate, thread = one["events_per_s"], one["device_thread_cpu_share"]
        times = _latency(one["submit_to_scores"])
        name = f"{one['sessions']:,} × {one['ticks']}, {one['under_way']} under way"
        rows.append((name, f"{rate:,.0f}", bound, times, f"{thread:.0%}", calls))
    headings = "events/s", "of bound", "submit to scores, p50 / p99", "device thread"
    yield from _table(("sessions × ticks", *headings, "calls × ticks"), rows)


def _variants(found: Any) -> Iterator[str]:
    rows = []
    for bucket, each in found.items():
        for name, one in each.items():
            if isinstance(one, str):
                rows.append((bucket, name, "", "", "", one))
                continue
            ratio, error = f"{one['by_served']:.2f}×", f"{one['error']:.1e}"
            times = f"{one['in_turn_ms']:.3f}", ratio, _latency(one)
            rows.append((bucket, name, *times, error))
    headings = "in turn, ms", "by served", "alone, p50 / p99", "error"
    yield from _table(("bucket", "variant", *headings), rows)


def _trace(found: Any) -> Iterator[str]:
    for bucket, one in found.items():
        count, all_us = one["kernels_a_call"], one["us_a_call"]
        yield f"  {bucket}: {count:.0f} kernels, {all_us:.1f} µs a call"
        rows = [
            (
                f"{each['us_a_call']:.1f}",
                f"{each['share']:.0%}",
                f"{each['runs_a_call']:.0f}",
                each["name"][:60],
            )
            for each in one["longest"]
        ]
        yield from _table(("µs", "share", "runs", "kernel"), rows)


TABLES: Final[dict[str, Callable[[Any], Iterator[str]]]] = {
    "device": _device,
    "ceilings": _ceilings,
    "compile": _compile,
    "scores": _scores,
    "speed": _speed,
    "engine": _engine,
    "variants": _variants,
    "trace": _trace,
}


def _table(headings: Cells, rows: Sequence[Cells]) -> Iterator[str]:
    """Align columns."""
    everything = [headings, *rows] if any(headings) else rows
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    for row in everything:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()


def _number(rate: float | str, unit: float, name: str) -> str:
    return rate if isinstance(rate, str) else f"{rate / unit:,.2f} {name}"


def _latency(one: dict[str, float]) -> str:
    if "p50_ms" not in one:
        return "none"
    return f"{one['p50_ms']:.3f} / {one['p99_ms']:.3f} ms"
