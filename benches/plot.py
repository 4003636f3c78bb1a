#!/usr/bin/env python3
"""Draws what `cargo bench --bench pipeline -- --json` prints as bars: records a second by format and size.

    cargo bench --bench pipeline -- --json | python3 benches/plot.py > docs/pipeline.svg
"""

import json
import sys

BAR, GAP, LEFT, WIDE = 22, 8, 190, 460


def main() -> None:
    rows = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    most = max(row["records_per_second"] for row in rows)
    height = len(rows) * (BAR + GAP) + 40
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 130}" height="{height}" '
          'font-family="sans-serif" font-size="13">')
    print('<text x="10" y="20">records a second through CLI and daemon, mutual TLS, two cores</text>')
    for number, row in enumerate(rows):
        top = 36 + number * (BAR + GAP)
        length = row["records_per_second"] / most * WIDE
        label = f'{row["format"]}, {row["records"]:,} records'
        print(f'<text x="10" y="{top + 15}">{label}</text>')
        print(f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="{BAR}" fill="#4477aa"/>')
        print(f'<text x="{LEFT + length + 6:.0f}" y="{top + 15}">{row["records_per_second"]:,}</text>')
    print("</svg>")


main()
