//! A tenant on its way to another backend.

use claviger_client::{Key, NewKey, SetKeyState};
use claviger_key_ceremonies::{Binding, Plan};

use super::attacks::{hold_all, make_what_is_there, open, order, show, take};
use crate::daemon::{Daemon, problem};
use crate::load::into;
use crate::token_keys::{DTK, dtk};

/// A key that was made while a tenant moves has no part in it, and no step passes it over.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_moves_leaves_no_key_behind() {
    let second = "[[backend]]\nname = \"second\"\ndriver = \"software\"\n";
    let daemon = Daemon::with_backends(&[&second.replace("second", "embedded"), second].concat());
    let order = order(&daemon.data(), "migrate-tenant", &[("other", "second")], &[]);
    let bound = Plan::bound(order.plan, &Binding::parse(&order.binding).unwrap()).unwrap();
    make_what_is_there(&daemon, &bound).await;
    let id = open(&daemon, &order).await.unwrap().id;
    // Up to where both backends answer.
    for _ in 0..5 {
        take(&daemon, &id, &mut Vec::new()).await.unwrap();
    }
    let made = into(&daemon, &["embedded"], NewKey { version: "77".to_owned(), ..dtk() }, DTK).await;
    let undone = problem(take(&daemon, &id, &mut Vec::new()).await);
    assert!(
        undone.detail.contains("DTK 3des 77") && undone.detail.contains("is not on its way to `second`"),
        "{undone:?}"
    );
    let end = SetKeyState { state: "destroyed".to_owned() };
    let at = format!("/v1/keys/{}/state", made.id);
    let _: Key = daemon.client("officer").post(&at, &end).await.unwrap();
    hold_all(&daemon, &id).await;
    let transcript = show(&daemon, &id).await.transcript;
    // Both keys that live are in the line of each of the four steps.
    assert_eq!(transcript.matches("demo/generic/KEK aes256 01, kcv ").count(), 4, "{transcript}");
}
