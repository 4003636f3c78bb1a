//! Policies: whatever stands in a file, it is a set or an error.

#![no_main]

use claviger::policy::{Authorizer, PolicySource};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Authorizer::load(&PolicySource::Texts {
        name: "fuzz".to_owned(),
        texts: vec![("fuzz.cedar".to_owned(), text.to_owned())],
    });
});
