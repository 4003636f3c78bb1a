//! A first circuit, after Kwan ("Reducing the Gate Count of Bitslice DES", 2000): an output is a wire that is there, a gate or
//! two of such wires, or chosen by an input between two functions of fewer, of which each may be anything where the other
//! is taken.

use crate::chance::Chance;
use crate::circuit::{Circuit, FIRST_GATE, Function, Gate, Gates};
use crate::wanted::Wanted;

pub(crate) struct Builder<'a> {
    pub(crate) gates: Gates,
    pub(crate) chance: &'a mut Chance,
}

/// A circuit with what its wires are.
#[derive(Clone, Default)]
struct Partial {
    circuit: Circuit,
    values: Vec<u64>,
}

impl Partial {
    fn add(&mut self, function: Function, inputs: [u8; 3]) -> u8 {
        let [a, b, c] = inputs.map(|wire| self.values[usize::from(wire)]);
        let value = function.of(a, b, c);
        if let Some(wire) = self.values.iter().position(|there| *there == value) {
            return wire as u8;
        }
        self.circuit.gates.push(Gate { function, inputs });
        self.values.push(value);
        (self.values.len() - 1) as u8
    }

    fn size(&self) -> usize {
        self.circuit.gates.len()
    }
}

impl Builder<'_> {
    /// A circuit with these outputs, which are made in an order that chance gives.
    pub(crate) fn build(&mut self, targets: &[u64; 4]) -> Circuit {
        let mut partial = Partial::default();
        partial.circuit.values(&mut partial.values);
        let mut order = [0, 1, 2, 3];
        self.chance.shuffle(&mut order);
        for output in order {
            let (found, wire) = self.wire(&partial, targets[output], !0, 0, usize::MAX).unwrap_or_default();
            partial = found;
            partial.circuit.outputs[output] = wire;
        }
        partial.circuit.tidy()
    }

    /// The wire that is `target` where `matters`, with the gates that it takes beside those that are there: fewer than `limit`
    /// in all.
    fn wire(&mut self, from: &Partial, target: u64, matters: u64, used: u8, limit: usize) -> Option<(Partial, u8)> {
        let same = |value: u64| (value ^ target) & matters == 0;
        if let Some(wire) = from.values.iter().position(|value| same(*value)) {
            return Some((from.clone(), wire as u8));
        }
        if from.size() + 1 >= limit {
            return None;
        }
        let mut wires: Vec<u8> = (0..from.values.len() as u8).collect();
        self.chance.shuffle(&mut wires);
        let of = |wire: u8| from.values[usize::from(wire)];
        if self.gates == Gates::ThreeInputs {
            wires.retain(|wire| usize::from(*wire) != FIRST_GATE - 1);
            let wanted = Wanted::of(target, matters);
            if let Some(inputs) = wanted.three_of(&wires, &from.values, |_| true) {
                let function = wanted.table(inputs.map(of), || self.chance.below(2) == 1);
                return Some(finished(from, |made| made.add(function, inputs)));
            }
            return self.chosen(from, target, matters, used, limit);
        }
        for function in Function::OF_TWO {
            for &a in &wires {
                if let Some(&b) = wires.iter().find(|b| same(function.of(of(a), of(**b), 0))) {
                    return Some(finished(from, |made| made.add(function, [a, b, b])));
                }
            }
        }
        if from.size() + 2 >= limit {
            return None;
        }
        let two = of_two_gates(from, target, matters, &wires);
        two.or_else(|| self.chosen(from, target, matters, used, limit))
    }

    /// Two functions, and an input that chooses.
    fn chosen(&mut self, from: &Partial, target: u64, matters: u64, used: u8, limit: usize) -> Option<(Partial, u8)> {
        let mut best: Option<(Partial, u8)> = None;
        let mut selectors: Vec<u8> = (0..FIRST_GATE as u8 - 1).filter(|input| used >> input & 1 == 0).collect();
        self.chance.shuffle(&mut selectors);
        // All ways near the output, few where the functions are small.
        let ways = if selectors.len() > 4 { selectors.len() } else { 1.max(selectors.len() - 2) };
        for selector in selectors.into_iter().take(ways) {
            let x = from.values[usize::from(selector)];
            for way in 0..3 {
                let limit = best.as_ref().map_or(limit, |(found, _)| found.size());
                let inside = limit.saturating_sub(2);
                let used = used | 1 << selector;
                let (invert, first, second) = match way {
                    // F ^ (x & D), F ^ (!x & D) and F ^ (x | D), of which F is right where D does not matter.
                    0 => (0, !x, x),
                    1 => (0, x, !x),
                    _ => (!0, x, !x),
                };
                let Some((made, f)) = self.wire(from, target ^ invert, matters & first, used, inside) else { continue };
                let difference = target ^ made.values[usize::from(f)];
                let found = if self.gates == Gates::ThreeInputs {
                    if way == 2 {
                        continue;
                    }
                    self.wire(&made, target, matters & second, used, inside + 1).map(|(made, g)| {
                        let (one, zero) = if way == 0 { (g, f) } else { (f, g) };
                        finished(&made, |made| made.add(Function::Table(0b1100_1010), [selector, one, zero]))
                    })
                } else {
                    self.wire(&made, difference, matters & second, used, inside).map(|(made, d)| {
                        let function = [Function::And, Function::AndNot, Function::Or][way];
                        finished(&made, |made| {
                            let taken = made.add(function, [selector, d, d]);
                            made.add(Function::Xor, [f, taken, taken])
                        })
                    })
                };
                best = found.filter(|(found, _)| found.size() < limit).or(best);
            }
        }
        best
    }
}

/// `f(g(a, b), c)`.
fn of_two_gates(from: &Partial, target: u64, matters: u64, wires: &[u8]) -> Option<(Partial, u8)> {
    let of = |wire: u8| from.values[usize::from(wire)];
    for &a in wires {
        for &b in wires {
            for inner in Function::OF_TWO {
                if inner != Function::AndNot && a >= b {
                    continue;
                }
                let u = inner.of(of(a), of(b), 0);
                let (above, below, apart) =
                    (target & !u & matters == 0, u & !target & matters == 0, u & target & matters == 0);
                for &c in wires {
                    let fits = |outer: Function| (outer.of(u, of(c), 0) ^ target) & matters == 0;
                    let mut outer = Function::OF_TWO.into_iter().zip([above, below, true, apart]);
                    if let Some((outer, _)) = outer.find(|(outer, may)| *may && fits(*outer)) {
                        return Some(finished(from, |made| {
                            let helper = made.add(inner, [a, b, b]);
                            made.add(outer, [helper, c, c])
                        }));
                    }
                }
            }
        }
    }
    None
}

fn finished(from: &Partial, gates: impl FnOnce(&mut Partial) -> u8) -> (Partial, u8) {
    let mut made = from.clone();
    let wire = gates(&mut made);
    (made, wire)
}
