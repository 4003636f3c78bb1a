//! A random walk from circuit to circuit of the same outputs.
//!
//! A step takes one gate, finds out for which inputs its value shows in an output at all, and puts another gate there
//! that is as good for those. What is not needed after it falls away. Steps that cost nothing lead on; now and
//! then one more gate is taken up, which has to pay later.

use crate::chance::Chance;
use crate::circuit::{Circuit, FIRST_GATE, Function, Gate, Gates};
use crate::wanted::Wanted;

/// Gates above the best that the walk may carry.
const SLACK: usize = 1;
/// Tries to find two gates in place of one.
const TRIES: usize = 20;
/// Steps without a better circuit after which the walk begins again at one of the best.
const PATIENCE: usize = 400_000;

pub(crate) struct Walk {
    gates: Gates,
    now: Circuit,
    best: Vec<Circuit>,
    since: usize,
    values: Vec<u64>,
    flipped: Vec<u64>,
    near: Vec<u8>,
}

impl Walk {
    pub(crate) fn new(gates: Gates, from: Circuit) -> Self {
        let [values, flipped] = [Vec::new(), Vec::new()];
        Self { gates, now: from.clone(), best: vec![from], since: 0, values, flipped, near: Vec::new() }
    }

    /// The smallest circuit seen, and of those the shallowest.
    pub(crate) fn best(&self) -> &Circuit {
        &self.best[0]
    }

    /// One step; whether there is a better circuit than before.
    pub(crate) fn step(&mut self, chance: &mut Chance) -> bool {
        self.since += 1;
        if self.since.is_multiple_of(PATIENCE) {
            self.now = self.best[chance.below(self.best.len())].clone();
        }
        let next = self.neighbour(chance);
        let Some(next) = next.filter(|next| next.gates.len() <= self.best().gates.len() + SLACK) else { return false };
        self.now = next;
        let (found, known) = (self.now.cost(), self.best().cost());
        if found.0 > known.0 {
            return false;
        }
        if found < known {
            if found.0 < known.0 {
                self.best.clear();
            }
            self.best.insert(0, self.now.clone());
            self.since = 0;
            return true;
        }
        // Others of the same size, to begin again at.
        if self.best.len() < 64 {
            self.best.push(self.now.clone());
        } else {
            let place = 1 + chance.below(63);
            self.best[place] = self.now.clone();
        }
        false
    }

    fn neighbour(&mut self, chance: &mut Chance) -> Option<Circuit> {
        self.now.values(&mut self.values);
        let gate = chance.below(self.now.gates.len());
        let wanted = self.wanted(gate);
        chance.shuffle(&mut self.near);
        let mut next = self.now.clone();
        let wire = (FIRST_GATE + gate) as u8;
        if let Some(same) = self.near.iter().find(|near| wanted.met(self.values[usize::from(**near)])) {
            let inputs = next.gates.iter_mut().flat_map(|gate| &mut gate.inputs);
            inputs.chain(&mut next.outputs).filter(|input| **input == wire).for_each(|input| *input = *same);
            return Some(next.tidy());
        }
        let larger = self.now.gates.len() < self.best().gates.len() + SLACK && chance.below(6) == 0;
        let other = if larger { None } else { self.another(wanted, self.now.gates[gate], chance) };
        if let Some(other) = other {
            next.gates[gate] = other;
        } else {
            let (helper, other) = self.two(wanted, chance)?;
            next.gates.push(helper);
            next.gates[gate] = other;
        }
        Some(next.tidy())
    }

    /// For which inputs the gate's value shows in an output; the wires that do not hang on it are left in `near`.
    fn wanted(&mut self, gate: usize) -> Wanted {
        self.flipped.clone_from(&self.values);
        let wire = FIRST_GATE + gate;
        self.flipped[wire] = !self.values[wire];
        let mut hangs = 1_u128 << wire;
        for (number, gate) in self.now.gates.iter().enumerate().skip(gate + 1) {
            if gate.inputs.iter().any(|input| hangs >> input & 1 == 1) {
                hangs |= 1 << (FIRST_GATE + number);
                let [a, b, c] = gate.inputs.map(|input| self.flipped[usize::from(input)]);
                self.flipped[FIRST_GATE + number] = gate.function.of(a, b, c);
            }
        }
        self.near.clear();
        let constant = if self.gates == Gates::ThreeInputs { FIRST_GATE - 1 } else { usize::MAX };
        let wires = 0..self.values.len();
        self.near.extend(wires.filter(|wire| hangs >> wire & 1 == 0 && *wire != constant).map(|wire| wire as u8));
        let shown = self.now.outputs.map(|output| self.values[usize::from(output)] ^ self.flipped[usize::from(output)]);
        let shown = shown.into_iter().fold(0, |all, one| all | one);
        Wanted { ones: self.values[wire] & shown, zeros: !self.values[wire] & shown }
    }

    /// A gate of wires that are there.
    fn another(&self, wanted: Wanted, old: Gate, chance: &mut Chance) -> Option<Gate> {
        match self.gates {
            Gates::TwoInputs => self.of_two(wanted, old, chance),
            Gates::ThreeInputs => self.of_three(wanted, old, chance),
        }
    }

    fn of_two(&self, wanted: Wanted, old: Gate, chance: &mut Chance) -> Option<Gate> {
        for &a in &self.near {
            let x = self.values[usize::from(a)];
            let may = [wanted.ones & !x == 0, wanted.zeros & x == 0, true, wanted.ones & x == 0];
            for &b in &self.near {
                let y = self.values[usize::from(b)];
                for (function, may) in Function::OF_TWO.into_iter().zip(may) {
                    let gate = Gate { function, inputs: [a, b, b] };
                    if may
                        && a != b
                        && wanted.met(function.of(x, y, y))
                        && (!alike(gate.inputs, old.inputs) || chance.below(8) == 0)
                    {
                        return Some(gate);
                    }
                }
            }
        }
        None
    }

    fn of_three(&self, wanted: Wanted, old: Gate, chance: &mut Chance) -> Option<Gate> {
        let mut other = |inputs| !alike(inputs, old.inputs) || chance.below(8) == 0;
        let inputs = wanted.three_of(&self.near, &self.values, &mut other)?;
        let values = inputs.map(|wire| self.values[usize::from(wire)]);
        Some(Gate { function: wanted.table(values, || chance.below(2) == 1), inputs })
    }

    /// A new gate, and one that takes it, whose wire is the next one.
    fn two(&self, wanted: Wanted, chance: &mut Chance) -> Option<(Gate, Gate)> {
        let helping = self.values.len() as u8;
        for _ in 0..TRIES {
            let inputs: [u8; 3] = std::array::from_fn(|_| self.near[chance.below(self.near.len())]);
            let [x, y, z] = inputs.map(|wire| self.values[usize::from(wire)]);
            if self.gates == Gates::ThreeInputs {
                let function = Function::Table(chance.below(256) as u8);
                let u = function.of(x, y, z);
                if let Some([b, c]) = wanted.two_beside(u, &self.near, &self.values, |_| true) {
                    let values = [u, self.values[usize::from(b)], self.values[usize::from(c)]];
                    let other =
                        Gate { function: wanted.table(values, || chance.below(2) == 1), inputs: [helping, b, c] };
                    return Some((Gate { function, inputs }, other));
                }
                continue;
            }
            let function = Function::OF_TWO[chance.below(4)];
            let (helper, u) = (Gate { function, inputs: [inputs[0], inputs[1], inputs[1]] }, function.of(x, y, y));
            for &k in &self.near {
                let z = self.values[usize::from(k)];
                for function in Function::OF_TWO {
                    if wanted.met(function.of(u, z, z)) {
                        return Some((helper, Gate { function, inputs: [helping, k, k] }));
                    }
                }
                if wanted.met(Function::AndNot.of(z, u, u)) {
                    return Some((helper, Gate { function: Function::AndNot, inputs: [k, helping, helping] }));
                }
            }
        }
        None
    }
}

/// Whether two gates take the same wires.
fn alike(mut a: [u8; 3], mut b: [u8; 3]) -> bool {
    a.sort_unstable();
    b.sort_unstable();
    a == b
}
