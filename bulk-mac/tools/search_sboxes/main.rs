//! Searches for smaller circuits of the S-boxes of DES than the file has, and writes those that it finds into it.
//!
//!     cargo run --release -p claviger-bulk-mac --example search_sboxes -- --seconds 600
//!     cargo run --release -p claviger-bulk-mac --example search_sboxes -- --ternary --box S5 --seed 7
//!     cargo run --release -p claviger-bulk-mac --example search_sboxes -- --from-nothing --seconds 3600
//!
//! Each circuit is held to the tables of FIPS 46-3 for all 64 inputs before it is written. `emit_sboxes.py` makes code of the
//! file afterwards.

#![expect(clippy::expect_used, clippy::panic, reason = "a tool that cannot go on ends")]

mod chance;
mod circuit;
mod construct;
#[path = "../../src/des/sboxes.rs"]
mod sboxes;
mod walk;
mod wanted;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chance::Chance;
use circuit::{Circuit, Gates};
use construct::Builder;
use walk::Walk;

/// Steps of one box's best circuit before its turn is over.
const TURN: usize = 50_000;
/// Steps without a smaller circuit after which a new beginning is given up.
const HOPE: usize = 100_000;

struct Options {
    gates: Gates,
    only: Option<String>,
    seconds: u64,
    seed: u64,
    from_nothing: bool,
}

fn main() {
    let options = options();
    let mut chance = Chance::new(options.seed);
    let name = match options.gates {
        Gates::TwoInputs => "sbox_circuits.txt",
        Gates::ThreeInputs => "sbox_circuits_ternary.txt",
    };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    let (comment, known) = read(&std::fs::read_to_string(&path).expect("the file of circuits is there"));
    let mut walks: Vec<Walk> =
        (0..8).map(|number| Walk::new(options.gates, first(&options, &known, number, &mut chance))).collect();
    report(&walks);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end {
        let mut better = false;
        for (number, walk) in walks.iter_mut().enumerate() {
            if options.only.as_ref().is_some_and(|only| *only != format!("S{}", number + 1)) {
                continue;
            }
            better |= (0..TURN).fold(false, |better, _| walk.step(&mut chance) | better);
            if let Some(other) = beginning(options.gates, walk.best(), &targets(number), &mut chance) {
                (*walk, better) = (other, true);
            }
        }
        if better {
            for (number, walk) in walks.iter().enumerate() {
                assert!(walk.best().is(&targets(number)), "S{} is not itself any more", number + 1);
            }
            report(&walks);
            write(&path, &comment, &known, &walks);
        }
    }
}

fn options() -> Options {
    let mut options = Options { gates: Gates::TwoInputs, only: None, seconds: 60, seed: 1, from_nothing: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("an option that takes a value has one");
        match argument.as_str() {
            "--ternary" => options.gates = Gates::ThreeInputs,
            "--from-nothing" => options.from_nothing = true,
            "--box" => options.only = Some(value()),
            "--seconds" => options.seconds = value().parse().expect("a number of seconds"),
            "--seed" => options.seed = value().parse().expect("a number"),
            other => panic!("`{other}` is not --ternary, --from-nothing, --box, --seconds or --seed"),
        }
    }
    options
}

/// The file's circuit of a box, or a new one.
fn first(options: &Options, known: &[Circuit], number: usize, chance: &mut Chance) -> Circuit {
    match known.get(number) {
        Some(known) if !options.from_nothing => known.clone(),
        _ => Builder { gates: options.gates, chance }.build(&targets(number)),
    }
}

/// A new beginning, walked on from while that pays, if it ends below the best.
fn beginning(gates: Gates, best: &Circuit, targets: &[u64; 4], chance: &mut Chance) -> Option<Walk> {
    let mut walk = Walk::new(gates, Builder { gates, chance }.build(targets));
    let mut size = walk.best().gates.len();
    let mut left = HOPE;
    while left > 0 {
        walk.step(chance);
        left -= 1;
        if walk.best().gates.len() < size {
            (size, left) = (walk.best().gates.len(), HOPE);
        }
    }
    (size < best.gates.len()).then_some(walk)
}

/// What the four outputs of a box are for all 64 inputs, most significant first.
fn targets(number: usize) -> [u64; 4] {
    std::array::from_fn(|output| {
        let bit = |input: usize| {
            // The outer bits name the row, the inner ones the column.
            let (row, column) = (input >> 4 & 2 | input & 1, input >> 1 & 15);
            u64::from(sboxes::SBOXES[number][16 * row + column] >> (3 - output) & 1)
        };
        (0..64).fold(0, |target, input| target | bit(input) << input)
    })
}

/// The comment that a file begins with, and its circuits.
fn read(text: &str) -> (String, Vec<Circuit>) {
    let comment = text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut circuits: Vec<Circuit> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if line.starts_with('S') {
            circuits.push(Circuit::default());
            continue;
        }
        let circuit = circuits.last_mut().expect("a box's name stands before its gates");
        if let Some(outputs) = line.strip_prefix("out ") {
            let outputs: Vec<u8> = outputs.split_whitespace().filter_map(|wire| wire.parse().ok()).collect();
            circuit.outputs = outputs.try_into().expect("four outputs");
        } else {
            circuit.gates.push(Circuit::gate(line).unwrap_or_else(|| panic!("`{line}` is no gate")));
        }
    }
    for (number, circuit) in circuits.iter().enumerate() {
        assert!(circuit.is(&targets(number)), "S{} of the file is another function", number + 1);
    }
    (comment, circuits)
}

/// Writes the best circuit of each box, which may still be the one that the file had.
fn write(path: &std::path::Path, comment: &str, known: &[Circuit], walks: &[Walk]) {
    let best = |number: usize, found: &Circuit| match known.get(number) {
        Some(known) if known.cost() <= found.cost() => known.text(),
        _ => found.text(),
    };
    let boxes =
        walks.iter().enumerate().map(|(number, walk)| format!("\nS{}\n{}", number + 1, best(number, walk.best())));
    std::fs::write(path, format!("{comment}{}", boxes.collect::<String>()))
        .expect("the file of circuits can be written");
}

fn report(walks: &[Walk]) {
    let sizes: Vec<String> =
        walks.iter().map(|walk| format!("{}/{}", walk.best().gates.len(), walk.best().depth())).collect();
    let gates: usize = walks.iter().map(|walk| walk.best().gates.len()).sum();
    println!("{gates} gates; gates/depth of each: {}", sizes.join(" "));
}
