//! The generated files are those that the tables give. `PLIMSOLL_WRITE_DOCS=1` writes them.
// The rule against files is for the crate, not for the comparison with what is checked in.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use cluster::config_defs::broker_def;
use cluster::config_docs::{configuration_page, sample_properties, sample_toml};
use std::path::Path;

fn same(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("PLIMSOLL_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{path} is out of date: PLIMSOLL_WRITE_DOCS=1 cargo test -p plimsoll-cluster --test docs"
    );
}

#[test]
fn generated_files_are_up_to_date() {
    same("docs/configuration.md", &configuration_page());
    same("config/server.properties", &sample_properties());
    same("config/plimsoll.toml", &sample_toml());
}

#[test]
fn samples_name_known_keys_alone() {
    let properties = sample_properties();
    let keys: Vec<&str> = properties
        .lines()
        .filter_map(|l| l.strip_prefix('#')?.split_once('='))
        .map(|(k, _)| k)
        .filter(|k| !k.starts_with(' '))
        .collect();
    assert!(keys.len() > 30, "{}", keys.len());
    for key in keys {
        assert!(broker_def(key).is_some(), "{key}");
    }
}
