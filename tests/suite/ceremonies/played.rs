//! A device that a rehearsal plays.

use claviger_client::{AdoptKey, Health, Key};

use super::attacks::order;
use crate::daemon::{Daemon, problem};
use crate::reload::{configuration, reload};
use crate::token_keys::dtk;

#[tokio::test(flavor = "multi_thread")]
async fn a_played_device_is_adopted_from_in_rehearsals_only() {
    let daemon =
        Daemon::with_backends("[[backend]]\nname = \"embedded\"\ndriver = \"software\"\nplays_device = true\n");
    let officer = daemon.client("officer");
    let key = claviger_client::NewKey { backends: vec!["embedded".to_owned()], ..dtk() };
    let adopt = AdoptKey { key, object: "card 7".to_owned(), kcv: None, records: Vec::new() };
    let adopted: Key = officer.post("/v1/keys/adopt", &adopt).await.unwrap();
    assert_eq!(adopted.origin, "adopted");
    let order = order(&daemon.data(), "adopt-key", &[], &[("version", "02")]);
    let _: Health = officer.post("/v1/ceremonies/check", &order.request()).await.unwrap();
    let production = configuration(&daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(&daemon, &production).await.contains("done"));
    let refused = problem(officer.post::<Health>("/v1/ceremonies/check", &order.request()).await);
    assert!(refused.detail.contains("this one plays a device for rehearsals"), "{}", refused.detail);
}
