//! Lines of CSV: the same records, however the file is cut into pieces.

#![no_main]

use claviger_card_schemes::{Columns, CsvReader, Reader, Schemes};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SCHEMES: LazyLock<Schemes> = LazyLock::new(|| Schemes::shipped().expect("shipped profiles hold"));

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (cards, split, data) = input;
    let columns = || match SCHEMES.find("cjt166") {
        Some(scheme) if cards => Columns::of_cards(scheme),
        _ => Columns::of_records(),
    };
    let reader = || Reader::Csv(CsvReader::new(columns(), 256, 0));
    let whole = claviger_fuzz::read(reader(), data, data.len());
    let cut = claviger_fuzz::read(reader(), data, usize::from(split));
    // A header that is longer than a line may be is noticed sooner or later, as the pieces fall.
    if whole.1.is_none() && cut.1.is_none() {
        assert_eq!(whole.0, cut.0);
    }
});
