#!/usr/bin/env python3
"""Draws what the benchmarks print with `--json` as bars.

    cargo bench --bench pipeline -- --json | python3 benches/plot.py > docs/pipeline.svg
    cargo bench --bench bulk_mac -- --json | python3 benches/plot.py > docs/bulk-mac.svg
"""

import json
import sys

BAR, GAP, LEFT, WIDE = 22, 8, 250, 460


def bars(row: dict) -> tuple[str, float, str]:
    """A bar's name, its length and what is written behind it."""
    if "tier" in row:
        ratio = row["ratio_openssl"]
        return f'{row["workload"]}, {row["tier"]}', ratio, f"{ratio:.1f}"
    rate = row["records_per_second"]
    return f'{row["format"]}, {row["records"]:,} records', rate, f"{rate:,}"


def main() -> None:
    rows = [json.loads(line) for line in sys.stdin if line.startswith("{")]
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
