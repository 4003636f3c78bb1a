//! Key blocks, envelopes and ECB against their vectors, against implementations that this crate does not link, and against
//! what must be refused.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod ecb;
mod envelopes;
mod headers;
mod reference;
mod refusals;
mod round_trips;
mod vectors;

use std::path::{Path, PathBuf};

use claviger_key_blocks::tr31::{
    Exportability, ExtendedLength, Form, Header, KeyAlgorithm, KeyContext, KeyPadding, KeyVersion, ModeOfUse, Usage,
    WrapOptions, WrapVersion,
};
use claviger_key_blocks::{Field, KeyBlockError, NoRandomness};
use serde_json::Value;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cases of a vector file.
fn cases(name: &str) -> Vec<Value> {
    let text = std::fs::read(project().join("tests/vectors").join(name)).unwrap();
    let document: Value = serde_json::from_slice(&text).unwrap();
    document["cases"].as_array().unwrap().clone()
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{case} has no {name}"))
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(case, name)).unwrap()
}

/// A generator that gives exactly these bytes, and fails after them.
fn fixed(bytes: &[u8]) -> impl FnMut(&mut [u8]) -> Result<(), NoRandomness> {
    let mut left = bytes.to_vec();
    move |wanted| {
        if wanted.len() > left.len() {
            return Err(NoRandomness);
        }
        let rest = left.split_off(wanted.len());
        wanted.copy_from_slice(&std::mem::replace(&mut left, rest));
        Ok(())
    }
}

/// A generator for tests: a counter, stirred.
fn counting(mut seed: u64) -> impl FnMut(&mut [u8]) -> Result<(), NoRandomness> {
    move |wanted| {
        for byte in wanted {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (seed >> 56) as u8;
        }
        Ok(())
    }
}

fn published() -> Form {
    Form::published(ExtendedLength::Pairs)
}

fn options(version: WrapVersion) -> WrapOptions {
    WrapOptions { version, form: published(), padding: KeyPadding::Obfuscated }
}

/// A plain header; the tests change what they are about.
fn header(usage: Usage, algorithm: KeyAlgorithm) -> Header {
    Header {
        usage,
        algorithm,
        mode: ModeOfUse::Any,
        key_version: KeyVersion::Unused,
        exportability: Exportability::Trusted,
        context: KeyContext::Unspecified,
        optional_blocks: Vec::new(),
    }
}

/// The field that something was refused for.
fn refused<T>(result: Result<T, KeyBlockError>) -> Field {
    result.err().expect("it is refused").field()
}
