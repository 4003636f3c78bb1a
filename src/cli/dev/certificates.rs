//! The authority of a development directory and the certificates it signs.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Days that the certificates last: long enough not to be in the way of development.
const DAYS: i64 = 825;

/// Writes `ca.pem`, `server.pem`, and a certificate for each client, with keys that only the owner reads.
pub(super) fn make(directory: &Path, clients: &[(&str, &str, &str)]) -> anyhow::Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Claviger development authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut ca, DAYS)?;
    let certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, &ca_key);

    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, "Claviger development daemon");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(directory, "server", server, &issuer)?;

    let folder = directory.join("clients");
    std::fs::create_dir_all(&folder)?;
    for (name, kind, _) in clients {
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, *name);
        client.subject_alt_names = vec![SanType::URI(format!("claviger://{kind}/{name}").try_into()?)];
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        sign(&folder, name, client, &issuer)?;
    }
    private(&directory.join("ca-key.pem"), &ca_key.serialize_pem())?;
    // Last, since its presence says that all the rest is there.
    std::fs::write(directory.join("ca.pem"), certificate.pem())?;
    Ok(())
}

fn sign(folder: &Path, name: &str, mut params: CertificateParams, issuer: &Issuer<'_, &KeyPair>) -> anyhow::Result<()> {
    valid_for(&mut params, DAYS)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    private(&folder.join(format!("{name}-key.pem")), &key.serialize_pem())
}

fn valid_for(params: &mut CertificateParams, days: i64) -> anyhow::Result<()> {
    let from = jiff::Zoned::now().yesterday()?;
    let until = jiff::Zoned::now().checked_add(jiff::Span::new().days(days))?;
    let date = |day: &jiff::Zoned| rcgen::date_time_ymd(i32::from(day.year()), day.month() as u8, day.day() as u8);
    (params.not_before, params.not_after) = (date(&from), date(&until));
    Ok(())
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}
