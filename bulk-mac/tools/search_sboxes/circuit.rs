//! A circuit of six inputs and four outputs, in gates of two or three inputs.

use std::fmt::Write as _;

/// Wires that are there before the first gate: the six input bits, most significant first, and one that is always one.
pub(crate) const FIRST_GATE: usize = 7;

/// The values of those wires for all 64 inputs, one bit each.
const GIVEN: [u64; FIRST_GATE] = [
    0xFFFF_FFFF_0000_0000,
    0xFFFF_0000_FFFF_0000,
    0xFF00_FF00_FF00_FF00,
    0xF0F0_F0F0_F0F0_F0F0,
    0xCCCC_CCCC_CCCC_CCCC,
    0xAAAA_AAAA_AAAA_AAAA,
    !0,
];

/// Which gates a circuit may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gates {
    /// `and`, `or`, `xor` and `andn`, which is `!a & b`.
    TwoInputs,
    /// Any function of three.
    ThreeInputs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    And,
    Or,
    Xor,
    AndNot,
    /// Bit `4a + 2b + c` is the value for inputs a, b, c.
    Table(u8),
}

impl Function {
    pub(crate) const OF_TWO: [Self; 4] = [Self::And, Self::Or, Self::Xor, Self::AndNot];

    pub(crate) fn of(self, a: u64, b: u64, c: u64) -> u64 {
        match self {
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::AndNot => !a & b,
            Self::Table(table) => cells(a, b, c)
                .into_iter()
                .enumerate()
                .filter(|(index, _)| table >> index & 1 == 1)
                .fold(0, |value, (_, cell)| value | cell),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Xor => "xor",
            Self::AndNot => "andn",
            Self::Table(_) => "",
        }
    }
}

/// For which inputs each combination of three values is there.
pub(crate) fn cells(a: u64, b: u64, c: u64) -> [u64; 8] {
    let of = |value: u64, bit: usize| if bit == 1 { value } else { !value };
    std::array::from_fn(|index| of(a, index >> 2) & of(b, index >> 1 & 1) & of(c, index & 1))
}

/// A gate of two inputs has its second one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) function: Function,
    pub(crate) inputs: [u8; 3],
}

/// Gates add wires from [`FIRST_GATE`] on, each after those that it takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Circuit {
    pub(crate) gates: Vec<Gate>,
    pub(crate) outputs: [u8; 4],
}

impl Circuit {
    /// What each wire is for all 64 inputs.
    pub(crate) fn values(&self, values: &mut Vec<u64>) {
        values.clear();
        values.extend(GIVEN);
        for gate in &self.gates {
            let [a, b, c] = gate.inputs.map(|wire| values[usize::from(wire)]);
            values.push(gate.function.of(a, b, c));
        }
    }

    /// Whether the outputs are those of a box, most significant first.
    pub(crate) fn is(&self, targets: &[u64; 4]) -> bool {
        let mut values = Vec::new();
        self.values(&mut values);
        self.outputs.map(|wire| values[usize::from(wire)]) == *targets
    }

    /// The longest way from an input to an output, in gates.
    pub(crate) fn depth(&self) -> usize {
        let mut depths = vec![0; FIRST_GATE];
        for gate in &self.gates {
            depths.push(1 + gate.inputs.map(|wire| depths[usize::from(wire)]).into_iter().max().unwrap_or(0));
        }
        self.outputs.map(|wire| depths[usize::from(wire)]).into_iter().max().unwrap_or(0)
    }

    /// Gates first, and of as many the depth.
    pub(crate) fn cost(&self) -> (usize, usize) {
        (self.gates.len(), self.depth())
    }

    /// The gates that an output needs, in an order in which each comes after what it takes.
    pub(crate) fn tidy(&self) -> Self {
        let mut tidy = Self::default();
        let mut moved: Vec<Option<u8>> = (0..FIRST_GATE as u8).map(Some).collect();
        moved.resize(FIRST_GATE + self.gates.len(), None);
        tidy.outputs = self.outputs.map(|wire| self.moved(wire, &mut moved, &mut tidy.gates));
        tidy
    }

    fn moved(&self, wire: u8, moved: &mut [Option<u8>], gates: &mut Vec<Gate>) -> u8 {
        if let Some(there) = moved[usize::from(wire)] {
            return there;
        }
        let gate = self.gates[usize::from(wire) - FIRST_GATE];
        let inputs = gate.inputs.map(|input| self.moved(input, moved, gates));
        gates.push(Gate { inputs, ..gate });
        let there = (FIRST_GATE + gates.len() - 1) as u8;
        moved[usize::from(wire)] = Some(there);
        there
    }

    /// One gate a line, and the outputs.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Gate { function, inputs: [a, b, c] } in &self.gates {
            let _ = match function {
                Function::Table(table) => writeln!(text, "{a} {b} {c} {table}"),
                named => writeln!(text, "{} {a} {b}", named.name()),
            };
        }
        let [a, b, c, d] = self.outputs;
        let _ = writeln!(text, "out {a} {b} {c} {d}");
        text
    }

    /// A gate of a file's line, or nothing if the line is none.
    pub(crate) fn gate(line: &str) -> Option<Gate> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [a, b, c, table] => {
                let inputs = [a.parse().ok()?, b.parse().ok()?, c.parse().ok()?];
                Some(Gate { function: Function::Table(table.parse().ok()?), inputs })
            }
            [name, a, b] => {
                let function = Function::OF_TWO.into_iter().find(|function| function.name() == name)?;
                let (a, b) = (a.parse().ok()?, b.parse().ok()?);
                Some(Gate { function, inputs: [a, b, b] })
            }
            _ => None,
        }
    }
}
