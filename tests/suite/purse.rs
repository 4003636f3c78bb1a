//! Top-up through the API, with the published worked example.

use std::collections::BTreeMap;

use claviger_client::{Client, ClientError, ImportKey, Key, NewKey, PsamDebit, PsamResult, Purse, PurseResult};

use crate::daemon::{Daemon, components};

/// `pboc-purse-3des.json`, cases pub-load-*: a card's own load key, MAC1 and MAC2.
pub(crate) const DLK: &str = "11223344556677888877665544332211";
const ASN: &str = "1150491934206620";

/// The example's key as one card's: both dispersion steps of the scheme are in it.
pub(crate) fn card_key() -> NewKey {
    NewKey {
        tenant: "demo".to_owned(),
        scheme: "cjt166".to_owned(),
        role: "DLK".to_owned(),
        version: "01".to_owned(),
        algorithm: "3des".to_owned(),
        factors: vec!["1150FF0000000000".to_owned(), ASN.to_owned()],
        ceiling: None,
        protect_from: None,
        protect_until: None,
        verify_until: None,
        backends: Vec::new(),
        places: Vec::new(),
        movable: false,
        sensitive: false,
    }
}

/// Imports the example's key as that of one card: both dispersion steps of the scheme are in it.
async fn import_card_key(officer: &Client) {
    let key = card_key();
    let components = components(DLK);
    let _: Key =
        officer.post("/v1/keys/import", &ImportKey { key, components, kcv: None, odd_parity: false }).await.unwrap();
}

pub(crate) fn load(mac: &str, amount: &str) -> Purse {
    let fields = [
        ("city_code", "1150"),
        ("asn", ASN),
        ("key_version", "01"),
        ("alg_id", "00"),
        ("rand", "11223344"),
        ("online_sn", "0000"),
        ("balance", "0"),
        ("amount", amount),
        ("txn_type", "01"),
        ("terminal_id", "001122334455"),
        ("date", "20111221"),
        ("time", "214822"),
    ];
    Purse {
        tenant: "demo".to_owned(),
        scheme: "cjt166".to_owned(),
        transaction: "load".to_owned(),
        fields: fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>(),
        verify: "mac1".to_owned(),
        mac: mac.to_owned(),
        make: Some("mac2".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mac2_is_made_only_after_the_right_mac1() {
    let daemon = Daemon::start();
    import_card_key(&daemon.client("officer")).await;
    let card_management = daemon.client("card-management");
    let result: PurseResult = card_management.post("/v1/purse", &load("2988AE5A", "4096")).await.unwrap();
    assert_eq!(result, PurseResult { valid: true, mac: Some("3A845BF0".to_owned()) });
    for wrong in [load("2988AE5B", "4096"), load("2988AE5A", "4097")] {
        let result: PurseResult = card_management.post("/v1/purse", &wrong).await.unwrap();
        assert_eq!(result, PurseResult { valid: false, mac: None });
    }
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    for mac in ["2988AE5A", "3A845BF0"] {
        assert!(!log.to_uppercase().contains(mac), "the audit log holds a MAC");
    }
}

/// The published purchase.
pub(crate) fn purchase() -> PsamDebit {
    let mut fields = load("", "4096").fields;
    for (name, text) in [("offline_sn", "0000"), ("txn_type", "06"), ("date", "20120229"), ("time", "135100")] {
        fields.insert(name.to_owned(), text.to_owned());
    }
    PsamDebit { tenant: "demo".to_owned(), scheme: "cjt166".to_owned(), transaction: "purchase".to_owned(), fields }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_a_terminals_psam() {
    // `pboc-purse-3des.json#pub-purchase-mac1`: the same key as a purchase key, transaction number 1.
    let daemon = Daemon::start();
    let key = NewKey { role: "DPK".to_owned(), ..card_key() };
    let components = components(DLK);
    let import = ImportKey { key, components, kcv: None, odd_parity: false };
    let _: Key = daemon.client("officer").post("/v1/keys/import", &import).await.unwrap();
    let debit = purchase();
    let terminals = daemon.client("terminals");
    let first: PsamResult = terminals.post("/v1/psam/debit", &debit).await.unwrap();
    assert_eq!(first, PsamResult { ttc: "00000001".to_owned(), mac1: "F15CAB75".to_owned() });
    let second: PsamResult = terminals.post("/v1/psam/debit", &debit).await.unwrap();
    assert_eq!(second.ttc, "00000002");
    for name in ["clearing", "card-management", "officer", "auditor"] {
        let refused = daemon.client(name).post::<PsamResult>("/v1/psam/debit", &debit).await;
        assert!(
            matches!(refused, Err(ClientError::Problem(problem)) if problem.code == "denied"),
            "{name} made a purchase"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purse_requests_that_do_not_fit_are_named() {
    let daemon = Daemon::start();
    import_card_key(&daemon.client("officer")).await;
    let card_management = daemon.client("card-management");
    let refused = async |client: &Client, request: Purse| match client.post::<PurseResult>("/v1/purse", &request).await
    {
        Err(ClientError::Problem(problem)) => (problem.code, problem.field.unwrap_or_default()),
        other => panic!("{other:?}"),
    };
    let good = load("2988AE5A", "4096");
    let without = |name: &str| {
        let mut request = good.clone();
        request.fields.remove(name);
        request
    };
    let expect = |code: &str, field: &str| (code.to_owned(), field.to_owned());
    assert_eq!(refused(&card_management, without("rand")).await, expect("bad_field", "rand"));
    assert_eq!(refused(&card_management, without("asn")).await, expect("bad_field", "asn"));
    assert_eq!(
        refused(&card_management, Purse { mac: "2988AE".to_owned(), ..good.clone() }).await,
        expect("bad_field", "mac1")
    );
    assert_eq!(
        refused(&card_management, Purse { make: Some("mac1".to_owned()), ..good.clone() }).await,
        expect("bad_field", "mac1")
    );
    assert_eq!(
        refused(&card_management, Purse { transaction: "gift".to_owned(), ..good.clone() }).await,
        expect("bad_field", "transaction")
    );
    assert_eq!(
        refused(&card_management, Purse { transaction: "unload".to_owned(), ..good.clone() }).await,
        expect("bad_field", "txn_type")
    );
    let mut foreign = good.clone();
    foreign.fields.insert("city_code".to_owned(), "1160".to_owned());
    assert_eq!(refused(&card_management, foreign).await, expect("no_role_key", ""));
    for name in ["clearing", "terminals", "officer", "auditor"] {
        assert_eq!(refused(&daemon.client(name), good.clone()).await, expect("denied", ""), "{name}");
    }
}
