//! Fields from text and from bytes: what the text says, the bytes say as well.

#![no_main]

use claviger_card_schemes::{Field, FieldSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (number, text) = input;
    let field = Field::ALL[usize::from(number) % Field::ALL.len()];
    let mut fields = FieldSet::default();
    if fields.parse(field, text).is_ok() && !text.is_empty() {
        let bytes = fields.get(field).expect("a field that was parsed is there").to_vec();
        assert_eq!(bytes.len(), field.width());
        assert!(FieldSet::default().set_checked(field, &bytes).is_ok(), "{field}: {bytes:02X?}");
    }
    let _ = FieldSet::default().set_checked(field, text);
});
