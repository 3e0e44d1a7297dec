//! Configuration files.
#[path = "../../server/src/config/properties.rs"]
mod properties;
#[path = "../../server/src/config/toml_file.rs"]
mod toml_file;

use cluster::config_defs::broker_def;
use cluster::parse_value;

/// The text of a `server.properties`, and of a TOML file.
pub fn config_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.split('\n').count();
    for parsed in [properties::parse(&text), toml_file::flatten(&text)] {
        for pair in parsed.into_iter().flatten() {
            assert!((1..=lines).contains(&pair.line), "a pair stands on a line of the file");
            judge(&pair.key, &pair.value);
        }
    }
}

fn judge(key: &str, value: &str) {
    if let Some(def) = broker_def(key) {
        let _ = parse_value(def, value);
    }
}
