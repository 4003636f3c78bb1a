//! Whether the time that a verification takes tells anything of keys, of data, or of where a MAC is wrong.
//!
//! After dudect (Reparaz, Balasch, Verbauwhede 2017): calls with fixed and with random input in random turns, and
//! Welch's t of their times. Beyond 4.5 either way they differ. A comparison that ends at the first difference is
//! measured as well, and must be found out.
//!
//!     cargo bench --bench constant_time -- --samples 1000000 --json
//!
//! With `--drivers` whole calls of each driver are measured, tokens' among them, by where a MAC is wrong.
//!
//! Under valgrind keys, factors, texts and MACs are marked as undefined instead, and every branch and every address
//! that depends on one is an error:
//!
//!     valgrind --error-exitcode=9 target/release/deps/constant_time-* --tainted
//!
//! and with `--leak` there is one to be found.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

mod drivers;
mod taint;
#[path = "../token/mod.rs"]
mod token;
mod work;

use std::hint::black_box;
use std::time::Instant;

use claviger_bulk_mac::{BulkMac, Platform};
use work::{Records, SIZES, Work};

/// Batches that calls choose from.
const POOL: usize = 32;
/// Beyond this, two classes differ.
const LIMIT: f64 = 4.5;

/// What the two classes of calls differ in.
#[derive(Clone, Copy)]
enum Question {
    Key,
    Data,
    /// The MACs are wrong in the first byte, or in the last.
    Position,
}

const QUESTIONS: [(Question, &str); 3] =
    [(Question::Key, "key"), (Question::Data, "data"), (Question::Position, "first wrong byte")];

fn main() {
    let (mut samples, mut json, mut tainted, mut by_drivers) = (100_000, false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--samples" => samples = arguments.next().unwrap().parse().unwrap(),
            "--json" => json = true,
            "--tainted" => tainted = true,
            "--drivers" => by_drivers = true,
            "--leak" | "--bench" => {}
            other => panic!("`{other}` is not --samples, --json, --drivers or --tainted"),
        }
    }
    if tainted {
        return taint::run();
    }
    if by_drivers {
        return assert!(drivers::ask(samples, json), "a call's time depends on where a MAC is wrong");
    }
    let mut sound = true;
    for platform in Platform::available() {
        let bulk = BulkMac::on(platform).unwrap();
        for (work, rows) in Work::ALL.into_iter().flat_map(|work| SIZES.map(|rows| (work, rows))) {
            for (question, asked) in QUESTIONS {
                let verify = |records: &Records, _: &Records| drop(black_box(records.verify(bulk, work)));
                let t = ask(question, samples, verify, (work, rows));
                sound &= t.abs() < LIMIT;
                report(platform.name(), (work.name(), rows), asked, t, json);
            }
        }
    }
    let leaky = |records: &Records, right: &Records| {
        black_box(records.leaky(&right.macs));
    };
    let t = ask(Question::Position, samples, leaky, (Work::DesTac, SIZES[0]));
    report("none", ("a comparison that ends early", SIZES[0]), "first wrong byte", t, json);
    assert!(t.abs() > LIMIT, "the leak that was planted was not found: t = {t:.2}");
    assert!(sound, "a call's time depends on what it should not");
}

fn report(tier: &str, (work, rows): (&str, usize), asked: &str, t: f64, json: bool) {
    if json {
        println!("{}", serde_json::json!({ "tier": tier, "workload": work, "records": rows, "by": asked, "t": t }));
    } else {
        println!("{tier:<10} {work:<30} {rows:>4} records, by {asked:<18} t = {t:>8.2}");
    }
}

/// The t of calls whose records are of two classes.
fn ask(question: Question, samples: usize, call: impl Fn(&Records, &Records), (work, rows): (Work, usize)) -> f64 {
    let mut random = work::Numbers::new(samples as u64);
    let fixed = Records::random(work, rows, &mut random);
    let pools: [Vec<Records>; 2] = match question {
        Question::Position => [0, 3].map(|byte| vec![fixed.wrong_at(byte); POOL]),
        _ => [vec![fixed.clone(); POOL], (0..POOL).map(|_| fixed.other(question, work, &mut random)).collect()],
    };
    // What is at hand is always the same memory.
    let mut at_hand = fixed.clone();
    let prepare = |at_hand: &mut Records, is_fixed: bool, turn: u64| {
        let place = turn as usize % POOL;
        at_hand.copy_one([&pools[0][place], &pools[1][place]], !is_fixed);
    };
    measure(samples, &mut at_hand, prepare, |at_hand| call(at_hand, &fixed))
}

/// Welch's t of two classes of calls in random turns, from the quicker nine tenths of all calls: the slow ones are other
/// programs'. What is called with is prepared before each, by its class and by a number that differs each time.
fn measure<T>(samples: usize, with: &mut T, prepare: impl Fn(&mut T, bool, u64), call: impl Fn(&T)) -> f64 {
    let mut random = work::Numbers::new(!(samples as u64));
    let mut times: Vec<(bool, f64)> = Vec::with_capacity(samples);
    for _ in 0..samples {
        let turn = random.next();
        let is_first = black_box(turn & 1 == 0);
        prepare(with, is_first, turn >> 8);
        let begun = Instant::now();
        call(with);
        times.push((is_first, begun.elapsed().as_nanos() as f64));
    }
    let mut sorted: Vec<f64> = times.iter().map(|(_, time)| *time).collect();
    sorted.sort_by(f64::total_cmp);
    let most = sorted[samples * 9 / 10];
    let class = |wanted: bool| {
        let times: Vec<f64> =
            times.iter().filter(|(class, time)| *class == wanted && *time <= most).map(|(_, time)| *time).collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let spread = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (times.len() as f64 - 1.0);
        (mean, spread / times.len() as f64)
    };
    let ((one, spread), (other, other_spread)) = (class(true), class(false));
    (one - other) / (spread + other_spread).sqrt()
}
