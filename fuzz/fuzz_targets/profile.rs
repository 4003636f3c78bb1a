//! Profiles: a TOML file that holds or is refused, and a scheme that answers for all it names.

#![no_main]

use claviger_card_schemes::{CardScheme, FieldSet};
use claviger_hsm_api::Algorithm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(scheme) = CardScheme::load(text) else { return };
    let fields = FieldSet::default();
    for role in scheme.roles() {
        for algorithm in Algorithm::ALL {
            let _ = scheme.attributes(role.name(), *algorithm, 1);
        }
        let _ = scheme.factors(&role, &fields);
    }
    for algorithm in Algorithm::ALL {
        let _ = scheme.tac_recipe(*algorithm, 0);
    }
    for (name, _) in scheme.key_sets() {
        let _ = scheme.key_set(Some(name)).map(|set| set.roles().map(|roles| roles.len()));
    }
    for (name, _) in scheme.layouts() {
        let _ = scheme.layout_reader(name, 0);
    }
});
