//! The plans that come with Claviger.

macro_rules! plans {
    ($($id:literal),* $(,)?) => {
        /// Each plan's id and its file's text.
        pub const PLANS: &[(&str, &str)] = &[$(($id, include_str!(concat!("../plans/", $id, ".toml")))),*];
    };
}

plans! {
    "adopt-key",
    "compromise-and-destroy",
    "copy-key",
    "disperse-city",
    "enrol-officer",
    "exchange-transport-key",
    "generate-root",
    "hand-out-root",
    "migrate-key",
    "migrate-tenant",
    "offline-root",
    "psam-batch",
    "raise-ceiling",
    "receive-components",
    "receive-envelope",
    "receive-key-block",
    "recovery-rehearsal",
    "rotate-version",
    "send-envelope",
    "send-key-block",
    "share-storage-key",
}

/// The shipped plan of an id.
pub fn shipped(id: &str) -> Option<&'static str> {
    PLANS.iter().find(|(known, _)| *known == id).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    #[test]
    fn every_shipped_plan_holds_together() {
        for (id, text) in PLANS {
            let plan = Plan::parse(text).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(plan.id, *id);
            assert_eq!(plan.lint(), Vec::<String>::new(), "{id}");
        }
    }
}
