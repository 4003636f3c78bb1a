#!/usr/bin/env python3
"""Writes ../src/des/sbox/{gates,ternary}.rs from the two lists of circuits. Run it by hand after changing one."""

from pathlib import Path

HERE = Path(__file__).parent
OPERATORS = {
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "xor": "{0} ^ {1}",
    "andn": "!{0} & {1}",
}


def boxes(file):
    lines = [line.split() for line in (HERE / file).read_text().splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    box = None
    for line in lines:
        if line[0].startswith("S") and len(line) == 1:
            box = (line[0].lower(), [])
        elif line[0] == "out":
            yield (*box, line[1:])
        else:
            box[1].append(line)


def gates():
    yield "//! The eight S-boxes of DES (FIPS 46-3) in gates of two inputs, without tables or branches."
    yield "//! Written by `tools/emit_sboxes.py` from `tools/sbox_circuits.txt`: change those, not this."
    yield ""
    yield "use crate::vector::Vector;"
    yield ""
    for name, circuit, outputs in boxes("sbox_circuits.txt"):
        yield "#[inline(always)]"
        yield f"pub(super) fn {name}<V: Vector>([v0, v1, v2, v3, v4, v5]: [V; 6]) -> [V; 4] {{"
        if any("6" in gate[1:3] for gate in circuit):
            yield "    let v6 = v0.ones();"
        for wire, (operator, *inputs) in enumerate(circuit, start=7):
            yield f"    let v{wire} = {OPERATORS[operator].format(*(f'v{i}' for i in inputs))};"
        yield f"    [{', '.join('v' + wire for wire in outputs)}]"
        yield "}"


def interleaved(a, b):
    """The gates of two boxes in one order, so that neither has to wait for itself."""
    tagged = [("a", i / len(a), gate) for i, gate in enumerate(a)] + [("b", i / len(b), gate) for i, gate in enumerate(b)]
    counts = {"a": 6, "b": 6}
    for side, _, gate in sorted(tagged, key=lambda entry: (entry[1], entry[0])):
        counts[side] += 1
        yield side, counts[side], gate


def ternary():
    yield "//! The eight S-boxes of DES (FIPS 46-3) in gates of three inputs, two boxes side by side."
    yield "//! Written by `tools/emit_sboxes.py` from `tools/sbox_circuits_ternary.txt`: change those, not this."
    yield ""
    yield "use crate::vector::Vector;"
    found = list(boxes("sbox_circuits_ternary.txt"))
    for (name, a, a_out), (other, b, b_out) in zip(found[::2], found[1::2]):
        yield ""
        yield "#[inline(always)]"
        parameters = ", ".join(f"[{', '.join(f'{side}{i}' for i in range(6))}]: [V; 6]" for side in "ab")
        yield f"pub(super) fn {name}_{other}<V: Vector>({parameters}) -> [[V; 4]; 2] {{"
        for side, wire, (x, y, z, table) in interleaved(a, b):
            yield f"    let {side}{wire} = {side}{x}.ternary::<{int(table):#04X}>({side}{y}, {side}{z});".replace("0X", "0x")
        results = (f"[{', '.join(side + wire for wire in out)}]" for side, out in (("a", a_out), ("b", b_out)))
        yield f"    [{', '.join(results)}]"
        yield "}"


if __name__ == "__main__":
    for name, lines in (("gates", gates()), ("ternary", ternary())):
        (HERE / f"../src/des/sbox/{name}.rs").write_text("\n".join(lines) + "\n")
