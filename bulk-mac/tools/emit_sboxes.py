#!/usr/bin/env python3
"""Writes ../src/des/sbox.rs from sbox_circuits.txt. Run it by hand after changing a circuit."""

from pathlib import Path

HERE = Path(__file__).parent
OPERATORS = {
    "and": "v{0} & v{1}",
    "or": "v{0} | v{1}",
    "xor": "v{0} ^ v{1}",
    "andn": "!v{0} & v{1}",
}


def boxes():
    lines = [line.split() for line in (HERE / "sbox_circuits.txt").read_text().splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    box = None
    for line in lines:
        if line[0].startswith("S") and len(line) == 1:
            box = (line[0].lower(), [])
        elif line[0] == "out":
            yield (*box, line[1:])
        else:
            box[1].append(line)


def emit():
    yield "//! The eight S-boxes of DES (FIPS 46-3) on bit planes, without tables or branches."
    yield "//! Written by `tools/emit_sboxes.py` from `tools/sbox_circuits.txt`: change those, not this."
    for name, gates, outputs in boxes():
        yield ""
        yield "#[inline(always)]"
        yield f"pub(super) fn {name}([v0, v1, v2, v3, v4, v5]: [u64; 6]) -> [u64; 4] {{"
        if any("6" in gate[1:3] for gate in gates):
            yield "    let v6 = !0;"
        for wire, (operator, *inputs) in enumerate(gates, start=7):
            yield f"    let v{wire} = {OPERATORS[operator].format(*inputs)};"
        yield f"    [{', '.join('v' + wire for wire in outputs)}]"
        yield "}"


if __name__ == "__main__":
    (HERE / "../src/des/sbox.rs").write_text("\n".join(emit()) + "\n")
