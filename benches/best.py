#!/usr/bin/env python3
"""Puts several runs of the kernels' benchmark together: of each contender its best median, and ratios between those.

    for run in 1 2 3; do
        taskset -c 0 cargo bench --bench bulk_mac -- --rounds 101 --json > run-$run.json
    done
    python3 benches/best.py run-*.json                                        # a table
    python3 benches/best.py --json run-*.json | python3 benches/plot.py > docs/bulk-mac.svg
"""

import json
import sys

PEERS = {"openssl": "ratio_openssl", "rustcrypto": "ratio_rustcrypto"}


def best(files: list[str]) -> dict[tuple[str, str], dict]:
    """Of each workload and contender the row with the least time a record."""
    found: dict[tuple[str, str], dict] = {}
    for name in files:
        with open(name, encoding="utf-8") as file:
            for row in map(json.loads, file):
                key = row["workload"], row["tier"]
                if key not in found or row["ns_per_record"] < found[key]["ns_per_record"]:
                    found[key] = row
    for (workload, _), row in found.items():
        for peer, ratio in PEERS.items():
            row[ratio] = found[workload, peer]["ns_per_record"] / row["ns_per_record"]
    return found


def cell(row: dict) -> str:
    if row["tier"] in PEERS:
        return f'{row["ns_per_record"]:.0f}'
    return (f'{row["ns_per_record"]:.1f} ({row["ns_low_quartile"]:.1f}-{row["ns_high_quartile"]:.1f}), '
            f'{row["cycles_per_record"]:.0f} cycles: {row["ratio_openssl"]:.1f}x, {row["ratio_rustcrypto"]:.1f}x, '
            f'{row["percent_of_limit"]:.0f} %')


def main(arguments: list[str]) -> None:
    rows = best([name for name in arguments if name != "--json"])
    if "--json" in arguments:
        for row in rows.values():
            print(json.dumps(row))
        return
    # `psec` knows a few of the workloads only: its ratios stand in the runs.
    ours = dict.fromkeys(tier for _, tier in rows if tier not in PEERS and tier != "psec")
    tiers = [*ours, *PEERS]
    print("| | " + " | ".join(tiers) + " |\n|" + "---|" * (len(tiers) + 1))
    for workload in dict.fromkeys(workload for workload, _ in rows):
        print(f"| {workload} | " + " | ".join(cell(rows[workload, tier]) for tier in tiers) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
