#!/usr/bin/env python3
"""Draws what the benchmarks print with `--json` as bars.

    cargo bench --bench pipeline -- --json | python3 benches/plot.py > docs/pipeline.svg
    cargo bench --bench bulk_mac -- --json | python3 benches/plot.py > docs/bulk-mac.svg

and, of several numbers of records, the cost of one as curves; of a thousand at most, the cost of a whole call, which shows from
where on the kernels are quicker than their peers:

    for n in 1 16 256 4096 65536 1048576 10000000; do
        cargo bench --bench bulk_mac -- --workload w --records $n --rounds 5 --json
    done | python3 benches/plot.py > docs/bulk-mac-sizes.svg
    for n in 1 2 4 8 16 20 24 32 64 128 192 256 512; do
        cargo bench --bench bulk_mac -- --workload w --records $n --json
    done | python3 benches/plot.py > docs/bulk-mac-few.svg
"""

import json
import math
import sys

BAR, GAP, LEFT, WIDE = 22, 8, 250, 460


def bars(row: dict) -> tuple[str, float, str]:
    """A bar's name, its length and what is written behind it."""
    if "tier" in row:
        ratio = row["ratio_openssl"]
        return f'{row["workload"]}, {row["tier"]}', ratio, f"{ratio:.1f}"
    rate = row["records_per_second"]
    return f'{row["format"]}, {row["records"]:,} records', rate, f"{rate:,}"


COLOURS = {"avx512": "#4477aa", "avx2": "#228833", "portable": "#ccbb44", "openssl": "#ee6677", "rustcrypto": "#aa3377"}


def curves(rows: list[dict]) -> None:
    """The cost of a record, or of a call, by the number of records, both axes logarithmic, a panel for each workload."""
    rows = [row for row in rows if row["tier"] in COLOURS]
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    calls = max(row["records"] for row in rows) <= 1000
    cost = lambda row: row["ns_per_record"] * row["records"] / 1000 if calls else row["ns_per_record"]
    title = "microseconds a call" if calls else "nanoseconds a record"
    most = max(math.log10(row["records"]) for row in rows)
    least, top = -0.2 if calls else 0.5, math.ceil(max(math.log10(cost(row)) for row in rows))
    wide, high, left = 420, 260, 60
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 150}" '
          f'height="{(high + 60) * len(workloads)}" font-family="sans-serif" font-size="13">')
    for number, workload in enumerate(workloads):
        origin = (high + 60) * number + 30
        x = lambda row: left + math.log10(row["records"]) / most * wide
        y = lambda figure: origin + high - (math.log10(figure) - least) / (top - least) * high
        print(f'<text x="10" y="{origin - 12}">{workload}: {title} by records in a call</text>')
        for power in range(0 if calls else 1, top + 1):
            print(f'<path d="M{left} {y(10 ** power):.0f}h{wide}" stroke="#ddd"/>'
                  f'<text x="8" y="{y(10 ** power) + 5:.0f}">{10 ** power:,}</text>')
        for power in range(0, int(most) + 1):
            print(f'<text x="{left + power / most * wide - 8:.0f}" y="{origin + high + 18}">10^{power}</text>')
        for tier, colour in COLOURS.items():
            points = sorted((row for row in rows if (row["workload"], row["tier"]) == (workload, tier)),
                            key=lambda row: row["records"])
            path = " ".join(f'{x(row):.0f},{y(cost(row)):.0f}' for row in points)
            print(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            if points:
                last = points[-1]
                print(f'<text x="{x(last) + 8:.0f}" y="{y(cost(last)) + 5:.0f}" fill="{colour}">{tier}</text>')
    print("</svg>")


def main() -> None:
    rows = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    if "tier" in rows[0] and len({row["records"] for row in rows}) > 1:
        return curves(rows)
    rows = [row for row in rows if "tier" in row or "daemon_peak_kib" in row]
    title = "records a second through CLI and daemon, mutual TLS, two cores"
    if "tier" in rows[0]:
        title = "times as fast as OpenSSL, one core"
        rows = [row for row in rows if row["tier"] != "openssl"]
    drawn = [bars(row) for row in rows]
    most = max(length for _, length, _ in drawn)
    height = len(drawn) * (BAR + GAP) + 40
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 130}" height="{height}" '
          'font-family="sans-serif" font-size="13">')
    print(f'<text x="10" y="20">{title}</text>')
    for number, (label, figure, text) in enumerate(drawn):
        top = 36 + number * (BAR + GAP)
        length = figure / most * WIDE
        print(f'<text x="10" y="{top + 15}">{label}</text>')
        print(f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="{BAR}" fill="#4477aa"/>')
        print(f'<text x="{LEFT + length + 6:.0f}" y="{top + 15}">{text}</text>')
    print("</svg>")


main()
