//! What a token costs, and what of it is Claviger's: a day of 3DES TACs dispersed by SoftHSM2 in bulk, beside the same
//! token record by record and beside its own bulk rate; and one MAC verified over the API, by backend.
//!
//!     cargo bench --bench tokens
//!     cargo bench --bench tokens -- --rounds 21 --calls 5000 --json

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

mod day;
mod latency;
#[expect(unsafe_code, reason = "the token without Claviger is asked by its C functions")]
mod raw;
#[path = "../token/mod.rs"]
mod token;

fn main() {
    let (mut rounds, mut calls, mut json) = (11, 3000, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().unwrap().parse().unwrap();
        match argument.as_str() {
            "--rounds" => rounds = number(),
            "--calls" => calls = number(),
            "--json" => json = true,
            "--bench" => {}
            other => panic!("`{other}` is not --rounds, --calls or --json"),
        }
    }
    let Some(folder) = token::folder() else { return };
    latency::report(&folder, calls, json);
    day::report(&folder, rounds, json);
}

/// Median, and the quarters on both sides of it.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 4], values[values.len() / 2], values[values.len() * 3 / 4]]
}
