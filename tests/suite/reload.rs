//! The configuration read again by a running daemon.

use std::time::{Duration, Instant};

use claviger_client::{Key, KeyMove, NewKey, VerifyRecords, VerifyResult};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, problem};
use crate::load::{CMAC, Load, generic, into, mac, status};
use crate::purse::{DLK, card_key};
use crate::tokens::Token;

pub(crate) fn configuration(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.data().join("claviger.toml")).unwrap()
}

/// Writes another configuration and has the daemon read it; what its audit log says of it.
pub(crate) async fn reload(daemon: &Daemon, configuration: &str) -> String {
    let log = daemon.data().join("audit.jsonl");
    let reloads = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().filter(|line| line.contains("\"event\":\"reload\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = reloads().len();
    std::fs::write(daemon.data().join("claviger.toml"), configuration).unwrap();
    kill_process(Pid::from_raw(daemon.process() as i32).unwrap(), Signal::HUP).unwrap();
    let begun = Instant::now();
    loop {
        if let Some(last) = reloads().get(before) {
            return last.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it was not read again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answers(daemon: &Daemon, key: &Key) -> String {
    let stands: KeyMove = daemon.client("officer").get(&format!("/v1/keys/{}/move", key.id), &()).await.unwrap();
    stands.answers
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_and_pins_change_under_load() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")];
    let daemon = Daemon::with_backends(&tables.concat());
    let key = into(&daemon, &["room", "hosted"], generic("CMAC"), CMAC).await;
    into(&daemon, &["room", "hosted"], card_key(), DLK).await;
    let both = configuration(&daemon);
    let load = Load::start(&daemon, 3);
    load.after("before", Duration::from_secs(1)).await;
    assert_eq!(answers(&daemon, &key).await, "room");

    let pin = "[[pin]]\ntenant = \"demo\"\nbackend = \"hosted\"\n";
    assert!(reload(&daemon, &format!("{both}\n{pin}")).await.contains("done"));
    assert_eq!(answers(&daemon, &key).await, "hosted");
    load.after("the tenant is pinned", Duration::from_secs(1)).await;

    let workers = status(&daemon, "room").await.workers;
    let slower = both.replace("name = \"room\"", "name = \"room\"\nrate = 100000\nworkers = 2");
    assert!(reload(&daemon, &slower).await.contains("done"));
    load.after("a backend is opened anew", Duration::from_secs(1)).await;
    assert!(!status(&daemon, "room").await.workers.contains(&workers[0]));

    let without = both.replace(&tables[0], "");
    assert_ne!(without, both);
    assert!(reload(&daemon, &without).await.contains("done"));
    load.after("a backend is taken away", Duration::from_secs(1)).await;
    assert_eq!(answers(&daemon, &key).await, "hosted");

    let nowhere = format!("{both}\n{}", pin.replace("hosted", "attic"));
    assert!(reload(&daemon, &nowhere).await.contains("backend_failed"));
    assert_eq!(answers(&daemon, &key).await, "hosted", "a wrong configuration changes nothing");
    assert!(reload(&daemon, &both.replace("listen", "listne")).await.contains("wrong_configuration"));
    assert_eq!(answers(&daemon, &key).await, "hosted", "one that cannot be read changes nothing either");
    assert!(reload(&daemon, &both).await.contains("done"));
    load.after("it is there again", Duration::from_secs(1)).await;
    assert_eq!(answers(&daemon, &key).await, "room");
    load.end().await;
}

/// The log says which policies are in force, and of a configuration that is not taken why, without a word of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_is_in_force_and_why_it_stays() {
    let daemon = Daemon::start();
    // Once it answers, it listens for SIGHUP.
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let whole = configuration(&daemon);
    let told = |record: &str| serde_json::from_str::<serde_json::Value>(record).unwrap();
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    let start = told(log.lines().find(|line| line.contains("\"event\":\"start\"")).unwrap());
    assert_eq!(start["in_force"]["name"], "dev");
    let production = whole.replace("policies = \"dev\"", "policies = \"production\"");
    let done = told(&reload(&daemon, &production).await);
    assert_eq!((&done["in_force"]["name"], &done["outcome"]), (&"production".into(), &"done".into()));
    // What the files themselves say, by the tool that everybody has.
    let by_hand = "cd policies/production && LC_ALL=C sha256sum *.cedar | sha256sum";
    let sum = std::process::Command::new("sh").args(["-c", by_hand]).output().unwrap().stdout;
    assert_eq!(done["in_force"]["sha256"].as_str().unwrap(), &String::from_utf8(sum).unwrap()[..64]);
    assert_ne!(start["in_force"]["sha256"], done["in_force"]["sha256"]);

    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy("policies/dev/single-officer.cedar", elsewhere.path().join("own.cedar")).unwrap();
    let elsewhere = elsewhere.path().display();
    let room = "[[backend]]\nname = \"room\"\ndriver = \"pkcs11\"\nmodule = \"/m.so\"\ntoken = { label = \"t\" }\n";
    let line = whole.lines().count() + 7;
    for (wrong, says) in [
        // A PIN where the name of its file belongs: the log has the line, and not what stands in it.
        (format!("{whole}\n{room}pin = \"tell-nobody\"\n"), format!("claviger.toml: line {line} is wrong")),
        (whole.replace("policies = \"dev\"", "policies = \"nowhere\""), "nowhere: No such file".to_owned()),
        (format!("{whole}\n[[pin]]\ntenant = \"demo\"\nbackend = \"attic\"\n"), "attic".to_owned()),
        // A directory that was not named when the daemon gave up all others.
        (
            whole.replace("policies = \"dev\"", &format!("policies = \"{elsewhere}\"")),
            format!("; {elsewhere} is in none"),
        ),
    ] {
        let refused = told(&reload(&daemon, &wrong).await);
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains(&says) && !refused.to_string().contains("tell-nobody"), "{says}: {refused}");
        assert_eq!(refused["in_force"], done["in_force"], "the old one stays");
    }
}

/// A key of the role that one backend alone holds keeps no other from the records that do not need it.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_where_the_keys_of_its_records_are() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")];
    let daemon = Daemon::with_backends(&tables.concat());
    let key = |version: &str| NewKey {
        role: "DTK".to_owned(),
        version: version.to_owned(),
        factors: Vec::new(),
        ceiling: Some("card-key".to_owned()),
        ..card_key()
    };
    into(&daemon, &["room", "hosted"], NewKey { factors: vec!["1150FF0000000000".to_owned()], ..key("01") }, DLK).await;
    into(&daemon, &["room"], NewKey { factors: vec!["1150FF0000000000".to_owned()], ..key("44") }, CMAC).await;
    let pinned = format!("{}\n[[pin]]\ntenant = \"demo\"\nbackend = \"hosted\"\n", configuration(&daemon));
    assert!(reload(&daemon, &pinned).await.contains("done"));
    let verify = async |version: &str| {
        let record = [
            ("record_id", "1"),
            ("city_code", "1150"),
            ("asn", "1150491934206620"),
            ("key_version", version),
            ("alg_id", "00"),
            ("amount", "300"),
            ("txn_type", "06"),
            ("terminal_id", "013100000001"),
            ("date", "20260702"),
            ("time", "180102"),
            ("ttc", "00011170"),
            ("tac", "18412CF1"),
        ];
        let record = record.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let path = "/v1/transactions/verify?tenant=demo&scheme=cjt166";
        let records = VerifyRecords { records: vec![record] };
        let found: VerifyResult = daemon.client("clearing").post(path, &records).await.unwrap();
        assert_eq!(found.verdicts[0].verdict, "invalid", "{found:?}");
        let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
        let closed = log.lines().find(|line| line.contains(&found.job) && line.contains("job-closed")).unwrap();
        let closed: serde_json::Value = serde_json::from_str(closed).unwrap();
        closed["backends"].to_string()
    };
    assert!(verify("01").await.contains("hosted"), "the tenant is pinned there");
    assert!(verify("44").await.contains("room"), "nobody else holds the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_with_weights_take_turns() {
    let (one, other) = (Token::softhsm(), Token::nss());
    let tables = [one.backend("one", "on-prem", "weight = 3"), other.backend("other", "on-prem", "weight = 1")];
    let daemon = Daemon::with_backends(&tables.concat());
    let key = into(&daemon, &["one", "other"], generic("CMAC"), CMAC).await;
    let mut first = 0;
    for _ in 0..40 {
        first += usize::from(answers(&daemon, &key).await == "one");
        mac(&daemon).await.unwrap();
    }
    assert!((20..40).contains(&first), "{first} of 40");
}

/// Whoever is taken off the list is nobody at once, also on a connection that was open before.
#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_is_taken_away_is_refused_on_its_old_connection() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let officer = daemon.client("officer");
    let list = async || {
        let filter = claviger_client::KeyFilter { tenant: "demo".to_owned(), scheme: None, role: None };
        officer.get::<claviger_client::KeyList>("/v1/keys", &filter).await
    };
    assert_eq!(list().await.unwrap().keys.len(), 1);
    let whole = configuration(&daemon);
    let tables: Vec<&str> = whole.split("[[principal]]").filter(|table| !table.contains("/officer\"")).collect();
    assert_eq!(tables.len(), whole.matches("[[principal]]").count());
    assert!(reload(&daemon, &tables.join("[[principal]]")).await.contains("done"));
    assert_eq!(problem(list().await).code, "unknown_principal");
    assert!(reload(&daemon, &whole).await.contains("done"));
    // It is written down who that was, by what the certificate says.
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    let refused = log.lines().find(|line| line.contains("\"event\":\"failed-login\"")).unwrap();
    assert!(refused.contains("\"statement\":\"claviger://officer/officer\""), "{refused}");
    assert_eq!(list().await.unwrap().keys.len(), 1);
}

/// What an authority has revoked: a list of that year and number.
fn revocation_list(
    (year, number): (i32, u64),
    serials: &[rcgen::SerialNumber],
    issuer: &rcgen::Issuer<'_, rcgen::KeyPair>,
) -> String {
    let revoked = |serial: &rcgen::SerialNumber| rcgen::RevokedCertParams {
        serial_number: serial.clone(),
        revocation_time: rcgen::date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(year, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

/// A certificate that its authority revokes is nobody's from then on, also on a connection that was open before; and a second
/// authority's certificates are as good as the first's.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_and_a_second_authority_come_with_a_reload() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber};
    use x509_parser::prelude::{FromDer, X509Certificate};

    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let read = |name: &str| std::fs::read_to_string(daemon.data().join(name)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca-key.pem")).unwrap()).unwrap();
    let whole = configuration(&daemon);
    let list = |revoked: &[SerialNumber], issuer: &_| revocation_list((2026, 1), revoked, issuer);
    let officer = daemon.client("officer");
    let listed = async |client: &claviger_client::Client| {
        let filter = claviger_client::KeyFilter { tenant: "demo".to_owned(), scheme: None, role: None };
        client.get::<claviger_client::KeyList>("/v1/keys", &filter).await
    };
    assert_eq!(listed(&officer).await.unwrap().keys.len(), 1);

    let (_, pem) = x509_parser::pem::parse_x509_pem(read("clients/officer.pem").as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
    let serial = SerialNumber::from_slice(certificate.raw_serial());
    std::fs::write(daemon.data().join("crl.pem"), list(&[serial], &issuer)).unwrap();
    let with_list = whole.replacen("[tls]", "[tls]\ncrl = [\"crl.pem\"]", 1);
    assert!(reload(&daemon, &with_list).await.contains("done"));
    assert_eq!(problem(listed(&officer).await).code, "unknown_principal", "on its old connection");
    let again = listed(&daemon.client("officer")).await.unwrap_err();
    assert!(!matches!(again, claviger_client::ClientError::Problem(_)), "a new one gets past the handshake: {again}");
    assert!(listed(&daemon.client("auditor")).await.is_ok(), "the others are as they were");

    // A file with no list in it, or one that somebody made in the authority's name, does not let in those who were revoked.
    let stranger = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::generate().unwrap()).unwrap();
    let good = read("crl.pem");
    let in_its_name = list(&[], &stranger);
    for wrong in ["", "garbage", &read("ca.pem"), &good[..good.len() / 2], &in_its_name] {
        std::fs::write(daemon.data().join("crl.pem"), wrong).unwrap();
        let said = reload(&daemon, &with_list).await;
        assert!(said.contains("revocation list") && !said.contains("\"done\""), "{said}");
        assert!(listed(&daemon.client("officer")).await.is_err() && listed(&daemon.client("auditor")).await.is_ok());
    }

    // Of two lists of one authority the newer counts, wherever it stands.
    let older = revocation_list((2025, 9), &[], &issuer);
    // And of two of one second that with the greater number.
    let first = revocation_list((2026, 0), &[], &issuer);
    // One from the future is not the newer one until then.
    let ahead = revocation_list((2090, 99), &[], &issuer);
    for both in [older, first, ahead].iter().flat_map(|other| [format!("{other}{good}"), format!("{good}{other}")]) {
        std::fs::write(daemon.data().join("crl.pem"), both).unwrap();
        assert!(reload(&daemon, &with_list).await.contains("done"));
        assert!(listed(&daemon.client("officer")).await.is_err(), "a newer list has revoked it");
    }

    // Another authority, with a list of its own that revokes nobody.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    let second = params.self_signed(&key).unwrap();
    let second_issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::default();
    own.subject_alt_names = vec![SanType::URI("claviger://auditor/auditor".try_into().unwrap())];
    let own = own.signed_by(&own_key, &second_issuer).unwrap();
    std::fs::write(daemon.data().join("both.pem"), read("ca.pem") + &second.pem()).unwrap();
    std::fs::write(daemon.data().join("crl.pem"), list(&[], &issuer) + &list(&[], &second_issuer)).unwrap();
    let client = {
        let connection = daemon.connection("auditor");
        let certificate = daemon.file("second.pem", own.pem().as_bytes()).into();
        let key = daemon.file("second-key.pem", own_key.serialize_pem().as_bytes()).into();
        claviger_client::Client::new(&claviger_client::Connection { certificate, key, ..connection }).unwrap()
    };
    assert!(listed(&client).await.is_err(), "nobody knows the authority yet");
    let both = with_list.replacen("client_ca = \"ca.pem\"", "client_ca = \"both.pem\"", 1);
    assert_ne!(both, with_list);
    assert!(reload(&daemon, &both).await.contains("done"));
    assert_eq!(listed(&client).await.unwrap().keys.len(), 1);
    assert_eq!(listed(&officer).await.unwrap().keys.len(), 1, "nobody is revoked any more");
}

/// An authority between, once the one above has revoked it, lets nobody in whom it certified.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_authority_between_lets_nobody_in() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber};

    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let read = |name: &str| std::fs::read_to_string(daemon.data().join(name)).unwrap();
    let root = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca-key.pem")).unwrap()).unwrap();
    let (key, number) = (KeyPair::generate().unwrap(), SerialNumber::from(77_u64));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority between");
    params.serial_number = Some(number.clone());
    let between = params.signed_by(&key, &root).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::default();
    own.subject_alt_names = vec![SanType::URI("claviger://auditor/auditor".try_into().unwrap())];
    let own = own.signed_by(&own_key, &issuer).unwrap();
    let connection = claviger_client::Connection {
        certificate: daemon.file("own.pem", (own.pem() + &between.pem()).as_bytes()).into(),
        key: daemon.file("own-key.pem", own_key.serialize_pem().as_bytes()).into(),
        ..daemon.connection("auditor")
    };
    let listed = async || {
        let filter = claviger_client::KeyFilter { tenant: "demo".to_owned(), scheme: None, role: None };
        let client = claviger_client::Client::new(&connection).unwrap();
        client.get::<claviger_client::KeyList>("/v1/keys", &filter).await
    };
    let with_list = configuration(&daemon).replacen("[tls]", "[tls]\ncrl = [\"crl.pem\"]", 1);
    for (revoked, is_let_in) in [(&[][..], true), (&[number], false)] {
        let lists = revocation_list((2026, 1), revoked, &root) + &revocation_list((2026, 1), &[], &issuer);
        std::fs::write(daemon.data().join("crl.pem"), lists).unwrap();
        assert!(reload(&daemon, &with_list).await.contains("done"));
        assert_eq!(listed().await.is_ok(), is_let_in, "{revoked:?}");
    }
}

/// Whoever is told that it serves may have it read its configuration at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_just_after_the_start_is_heard() {
    for _ in 0..6 {
        let daemon = Daemon::start();
        assert!(reload(&daemon, &configuration(&daemon)).await.contains("done"));
    }
}
