//! What a gate has to be where it matters.

use crate::circuit::{Function, cells};

/// `ones` and `zeros` are inputs for which it must be one and zero; no others matter.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) ones: u64,
    pub(crate) zeros: u64,
}

impl Wanted {
    pub(crate) fn of(target: u64, matters: u64) -> Self {
        Self { ones: target & matters, zeros: !target & matters }
    }

    pub(crate) fn met(self, value: u64) -> bool {
        self.ones & !value == 0 && self.zeros & value == 0
    }

    /// Whether it must be both among these inputs, which no gate can tell apart.
    pub(crate) fn torn(self, cell: u64) -> bool {
        self.ones & cell != 0 && self.zeros & cell != 0
    }

    /// Three wires of which a gate can be as wanted, and that are `good` besides.
    pub(crate) fn three_of(
        self,
        wires: &[u8],
        values: &[u64],
        mut good: impl FnMut([u8; 3]) -> bool,
    ) -> Option<[u8; 3]> {
        wires.iter().enumerate().find_map(|(number, &a)| {
            let others = self.two_beside(values[usize::from(a)], &wires[..number], values, |[b, c]| good([a, b, c]));
            others.map(|[b, c]| [a, b, c])
        })
    }

    /// Two wires that are so beside a value.
    pub(crate) fn two_beside(
        self,
        x: u64,
        wires: &[u8],
        values: &[u64],
        mut good: impl FnMut([u8; 2]) -> bool,
    ) -> Option<[u8; 2]> {
        for (number, &b) in wires.iter().enumerate() {
            let y = values[usize::from(b)];
            let cells = [x & y, x & !y, !x & y, !x & !y];
            let torn = cells.map(|cell| if self.torn(cell) { cell } else { 0 });
            for &c in &wires[..number] {
                let z = values[usize::from(c)];
                if torn.iter().all(|cell| self.told_apart(*cell, z)) && good([b, c]) {
                    return Some([b, c]);
                }
            }
        }
        None
    }

    /// Whether a value is another one for all inputs of a cell for which it must be one than for all for which it must be zero.
    fn told_apart(self, cell: u64, by: u64) -> bool {
        let (ones, zeros) = (self.ones & cell, self.zeros & cell);
        (by & ones == ones && by & zeros == 0) || (by & ones == 0 && by & zeros == zeros)
    }

    /// The function of three values that is as wanted; where it does not matter, what `either` says.
    pub(crate) fn table(self, [x, y, z]: [u64; 3], mut either: impl FnMut() -> bool) -> Function {
        let mut table = 0;
        for (index, cell) in cells(x, y, z).into_iter().enumerate() {
            let one = cell & self.ones != 0 || (cell & self.zeros == 0 && either());
            table |= u8::from(one) << index;
        }
        Function::Table(table)
    }
}
