//! Bodies of the API: every type, and what is read is written the same way again.

#![no_main]

use claviger_client as wire;
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

fn body<T: DeserializeOwned + Serialize>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&value).expect("what was read can be written");
        let again: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(written, serde_json::to_vec(&again).expect("what was read can be written"));
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, data) = input;
    let kinds: &[fn(&[u8])] = &[
        body::<wire::NewKey>,
        body::<wire::ImportKey>,
        body::<wire::SetKeyState>,
        body::<wire::DisperseKey>,
        body::<wire::ComputeKcv>,
        body::<wire::VerifyRecords>,
        body::<wire::Purse>,
        body::<wire::PsamDebit>,
        body::<wire::CardCommand>,
        body::<wire::WriteKey>,
        body::<wire::AuthenticateCard>,
        body::<wire::Personalise>,
        body::<wire::MacGenerate>,
        body::<wire::MacVerify>,
        body::<wire::Encrypt>,
        body::<wire::Decrypt>,
        body::<wire::Sign>,
        body::<wire::VerifySignature>,
        body::<wire::RandomRequest>,
        body::<wire::Unseal>,
        body::<wire::Problem>,
    ];
    kinds[usize::from(kind) % kinds.len()](data);
});
