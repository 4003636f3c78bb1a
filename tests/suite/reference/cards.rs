//! What cards and hosts compute: TACs from the root key down, MACs under session keys.

use claviger_card_schemes::Schemes;
use claviger_hsm_api::{
    Algorithm, Column, Finish, FoldRule, Input, KeyPath, MacAlgorithm, Message, Padding, Recipe, Step, Truncation,
};
use proptest::prelude::*;
use serde_json::json;

use super::{ask, cases, engine, mac_recipe, upper, word};

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn tacs_agree_from_the_root_key_down(key: [u8; 16], city in 0..10_000u32, asn: u64, message: [u8; 22]) {
        let schemes = Schemes::shipped().unwrap();
        let scheme = schemes.find("cjt166").unwrap();
        let city = hex::decode(format!("{city:04}FF0000000000")).unwrap();
        let asn = asn.to_be_bytes();
        for (algorithm, rule) in [(Algorithm::TripleDes, "xor_halves"), (Algorithm::Sm4, "full")] {
            let recipe = scheme.tac_recipe(algorithm, 0).unwrap();
            let Finish::VerifyMac { spec, message: covered, .. } = &recipe.legs[0].finish else { panic!("a TAC is verified") };
            let recipe = Recipe::single(recipe.legs[0].path.clone(), Finish::Mac { spec: spec.clone(), message: covered.clone() });
            let columns = [&city[..], &asn, &message].map(Column::one).to_vec();
            let found = engine(algorithm, &key, &recipe, columns);
            let card_key = ask(json!({"op": "disperse", "alg": word(algorithm), "rule": "f_notf", "parity": "none", "key": upper(key), "factors": [upper(&city), upper(asn)]}));
            let tac = json!({"op": "tac", "alg": word(algorithm), "key_rule": rule, "truncate": "left4", "card_key": upper(card_key), "message": upper(message)});
            prop_assert_eq!(found, ask(tac));
        }
    }

    #[test]
    fn every_rule_for_a_tac_agrees(key: [u8; 16], message in proptest::collection::vec(any::<u8>(), 0..70)) {
        let fold = |rule| vec![Step::FoldHalves { rule }];
        let keys = [
            (Algorithm::TripleDes, "full", Vec::new(), MacAlgorithm::Retail),
            (Algorithm::TripleDes, "xor_halves", fold(FoldRule::SingleDes), MacAlgorithm::CbcMac),
            (Algorithm::Sm4, "full", Vec::new(), MacAlgorithm::CbcMac),
            (Algorithm::Sm4, "fold_complement", fold(FoldRule::WithComplement), MacAlgorithm::CbcMac),
        ];
        let truncations = [
            ("left4", Truncation::Left(4)),
            ("right4", Truncation::Right(4)),
            ("fold8_left4", Truncation::FoldLeft(4)),
            ("fold4", Truncation::FoldTwice),
        ];
        for (algorithm, key_rule, steps, mac) in keys {
            for (truncate, truncation) in truncations {
                let mut recipe = mac_recipe(Vec::new(), algorithm, mac, Padding::One, 4);
                recipe.legs[0].path = KeyPath { steps: steps.clone(), ..recipe.legs[0].path.clone() };
                if let Finish::Mac { spec, message } = &mut recipe.legs[0].finish {
                    spec.truncation = truncation;
                    *message = Message::column(0);
                }
                let found = engine(algorithm, &key, &recipe, vec![Column::one(&message[..])]);
                let request = json!({"op": "tac", "alg": word(algorithm), "key_rule": key_rule, "truncate": truncate, "card_key": upper(key), "message": upper(&message)});
                prop_assert_eq!(found, ask(request), "{} {} {}", algorithm, key_rule, truncate);
            }
        }
    }

    #[test]
    fn session_macs_agree(key: [u8; 16], session: [u8; 8], message in proptest::collection::vec(any::<u8>(), 1..40)) {
        for algorithm in [Algorithm::TripleDes, Algorithm::Sm4] {
            let steps = vec![Step::Session { input: Input::Column(0) }];
            let recipe = mac_recipe(steps, algorithm, MacAlgorithm::CbcMac, Padding::One, 4);
            let found = engine(algorithm, &key, &recipe, vec![Column::one(session), Column::one(message.clone())]);
            let session_key = ask(json!({"op": "session", "alg": word(algorithm), "key": upper(key), "input": upper(session)}));
            prop_assert_eq!(found, ask(json!({"op": "purse_mac", "alg": word(algorithm), "session_key": upper(session_key), "message": upper(&message)})));
        }
    }
}
