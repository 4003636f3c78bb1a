//! The configuration file.

#![no_main]

use claviger::config::Config;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, Path::new("/etc/claviger/claviger.toml")) {
        let _ = config.policy_source();
    }
});
