//! Every parser has a fuzz target, and every target a corpus to start from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is parsed, where, and by which target it is fuzzed. A file that reads what somebody else wrote stands here.
const PARSERS: &[(&str, &str, &str)] = &[
    ("lines of CSV, of records and of cards", "card-schemes/src/records/csv.rs", "records_csv"),
    ("plain lines of CSV", "card-schemes/src/records/line.rs", "records_csv"),
    ("records of a layout", "card-schemes/src/records/layout.rs", "records_layout"),
    ("packed records of a layout", "card-schemes/src/records/packed.rs", "records_layout"),
    ("Arrow streams", "card-schemes/src/records/arrow.rs", "records_arrow"),
    ("fields as text and as bytes", "card-schemes/src/fields.rs", "fields"),
    ("the bytes of fields", "card-schemes/src/fields/set.rs", "fields"),
    ("profiles", "card-schemes/src/profile.rs", "profile"),
    ("pieces of profiles", "card-schemes/src/piece.rs", "profile"),
    ("JSON bodies", "client/src/wire.rs", "wire"),
    ("names of keys", "hsm-drivers/api/src/name.rs", "names"),
    ("words of closed lists", "hsm-drivers/api/src/attributes.rs", "names"),
    ("principals of certificates", "src/policy/principal.rs", "names"),
    ("the configuration", "src/config.rs", "config"),
    ("audit logs", "src/audit/chain.rs", "audit_log"),
    ("proofs of verdicts", "src/audit/proof.rs", "verdict_proof"),
    ("what audit logs say was used", "src/audit/usage.rs", "audit_log"),
    ("signed ends of audit logs", "src/audit/checkpoint.rs", "audit_log"),
    ("backups", "src/backup.rs", "backup"),
    ("plans", "key-ceremonies/src/plan.rs", "ceremony"),
    ("bindings", "key-ceremonies/src/binding.rs", "ceremony"),
    ("transcripts", "key-ceremonies/src/transcript.rs", "ceremony"),
    ("bundles", "key-ceremonies/src/bundle.rs", "ceremony"),
    ("components", "key-ceremonies/src/component.rs", "ceremony"),
    ("votes of officers", "key-ceremonies/src/signature.rs", "vote"),
    ("Arrow files", "src/cli/transactions/arrow_file.rs", "arrow_file"),
    ("policies", "src/policy/sets.rs", "policies"),
    ("headers of key blocks", "key-blocks/src/tr31/header.rs", "key_block"),
    ("optional blocks", "key-blocks/src/tr31/optional.rs", "key_block"),
    ("opened key blocks", "key-blocks/src/tr31/block.rs", "key_block"),
    ("structures of SDF and SKF devices", "key-blocks/src/sm2/structure.rs", "key_block"),
    ("DER of SM2 envelopes", "key-blocks/src/sm2/asn1.rs", "key_block"),
    ("frames of workers", "src/routing/worker/frame.rs", "worker_frames"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_parser_has_a_target_and_every_target_a_corpus() {
    let targets = names(&root().join("fuzz/fuzz_targets"));
    for (what, file, target) in PARSERS {
        assert!(root().join(file).exists(), "{what}: {file} is gone");
        assert!(targets.contains(*target), "{what} have no target {target}");
    }
    let used: BTreeSet<String> = PARSERS.iter().map(|(.., target)| (*target).to_owned()).collect();
    assert_eq!(targets, used, "a target fuzzes no parser of the list");
    for target in &targets {
        let seeds = names(&root().join("fuzz/corpus").join(target));
        assert!(seeds.iter().any(|seed| seed.starts_with("seed-")), "{target} has no corpus");
    }
}

/// Where text or bytes of others become values of ours: a new place must be put on the list above, or here.
#[test]
fn nothing_else_parses() {
    // Each reads what this program itself has written, or what the caller's own user gives it.
    let ours = [
        // Parquet is read by its own crate, whose panics on damaged files become errors of the command.
        "src/cli/transactions/source.rs",
        "src/keyring/mod.rs",
        "src/seal.rs",
        "src/api/mod.rs",
        "src/cli/approvals.rs",
        // What it has written itself.
        "src/service/approvals.rs",
        "src/service/policies.rs",
        "src/cli/audit.rs",
        "src/cli/audit/prove.rs",
        "src/cli/audit/prove_call.rs",
        "src/cli/evidence.rs",
        "src/cli/dev.rs",
        "src/cli/policy.rs",
        "src/cli/transactions/journal.rs",
        "src/cli/transactions/verdicts.rs",
        "client/src/http.rs",
        "card-schemes/src/scheme.rs",
        "hsm-drivers/software/src/config.rs",
        "hsm-drivers/pkcs11/src/config.rs",
        // What the daemon tells the launcher, and the launcher the daemon.
        "src/routing/worker/launcher.rs",
    ];
    let mut found = Vec::new();
    for folder in [
        "src",
        "client/src",
        "card-schemes/src",
        "hsm-drivers/api/src",
        "key-blocks/src",
        "key-ceremonies/src",
        "hsm-drivers/software/src",
        "hsm-drivers/pkcs11/src",
    ] {
        crate::architecture::rust_files(&root().join(folder), &mut found);
    }
    for file in found {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let parses = [
            "serde_json::from_",
            "Deserializer::from_",
            "toml::from_str",
            "table.try_into",
            "root_as_",
            "StreamDecoder",
            "ReaderBuilder",
            "PolicySet = ",
            "postcard::from_bytes",
            "postcard::take_from_bytes",
            "SliceReader::new",
        ];
        let listed = PARSERS.iter().any(|(_, file, _)| *file == path) || ours.contains(&path.as_str());
        assert!(listed || !parses.iter().any(|call| text.contains(call)), "{path} parses and is on no list");
    }
}
