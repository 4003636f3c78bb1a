//! Backups: whoever has the key unpacks what was packed, and everybody else is refused without a trace.

#![no_main]

use claviger::backup::{BackupKey, Opened};
use claviger_hsm_api::Secret;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(opened) = Opened::read(data) else { return };
    let into = std::env::temp_dir().join(format!("claviger-fuzz-backup-{}", std::process::id()));
    std::fs::create_dir_all(&into).unwrap();
    let key = BackupKey::of(&Secret::copy_of(&[7; 32])).unwrap();
    if key.unpack(opened, &into).is_err() {
        assert!(std::fs::read_dir(&into).unwrap().next().is_none(), "something is left");
    }
    std::fs::remove_dir_all(&into).unwrap();
});
