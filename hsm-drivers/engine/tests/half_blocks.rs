//! ISO/IEC 9797-1 algorithm 7 is secure because it never shows more than half a block.

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, KeyPath, MacAlgorithm, MacSpec, Message, Padding, Recipe, Secret, Truncation,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};

#[test]
fn algorithm_7_gives_at_most_half_a_block() {
    let key = PlainKey { algorithm: Algorithm::Sm4, secret: Secret::copy_of(b"a key for a test") };
    for (len, taken, given) in [(16, 8, true), (16, 9, false), (16, 16, false), (15, 8, true), (15, 9, false)] {
        for truncation in [Truncation::Left(taken), Truncation::Right(taken)] {
            let spec = MacSpec {
                algorithm: MacAlgorithm::TrCbc,
                second: None,
                padding: Padding::None,
                initial: None,
                truncation,
            };
            let path = KeyPath { slot: 0, algorithm: Algorithm::Sm4, steps: Vec::new(), steps_left: 0 };
            let recipe = Recipe::single(path, Finish::Mac { spec, message: Message::column(0) });
            let batch = Batch::one(vec![Column::one(vec![1; len])], 1);
            let outcome = run(&[&key], &recipe, &batch, &|_, _| Err(EngineError::NoStore));
            assert_eq!(outcome.is_ok(), given, "{truncation:?} of {len} bytes");
        }
    }
}
