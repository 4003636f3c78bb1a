//! HMAC-SM3 with keys of every length, also those that no driver takes in.

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, KeyPath, MacAlgorithm, MacSpec, Message, Padding, Recipe, Secret, Truncation,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};

#[test]
fn every_published_key_gives_the_published_mac() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/sm3-hmac.json");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut lengths = Vec::new();
    for case in document["cases"].as_array().unwrap().iter().filter(|case| case["op"] == "HMAC-SM3") {
        let field = |name: &str| hex::decode(case[name].as_str().unwrap()).unwrap();
        lengths.push(field("key").len());
        let key = PlainKey { algorithm: Algorithm::HmacSm3, secret: Secret::copy_of(&field("key")) };
        let spec = MacSpec {
            algorithm: MacAlgorithm::Hmac,
            second: None,
            padding: Padding::None,
            initial: None,
            truncation: Truncation::Left(32),
        };
        let path = KeyPath { slot: 0, algorithm: Algorithm::HmacSm3, steps: Vec::new(), steps_left: 0 };
        let recipe = Recipe::single(path, Finish::Mac { spec, message: Message::column(0) });
        let batch = Batch::one(vec![Column::one(field("message"))], 1);
        let outcome = run(&[&key], &recipe, &batch, &|_, _| Err(EngineError::NoStore)).unwrap();
        assert_eq!(outcome.bytes(0, 0), Some(&field("expected")[..]), "{}", case["id"]);
    }
    assert_eq!(lengths, [37, 32, 4, 32]);
}
