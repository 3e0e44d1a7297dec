//! TOML with Kafka's keys, written in one piece or as tables.
use super::properties::Pair;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Keys with dots and their values as text, in the order of the keys. Errors are whole sentences, with the
/// line where it is known.
pub(super) fn flatten(text: &str) -> Result<Vec<Pair>, String> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let places = DeTable::parse(text).map_err(|e| e.to_string())?;
    let mut lines = BTreeMap::new();
    find_lines("", places.get_ref(), text, &mut lines);
    let mut pairs = Vec::new();
    walk("", &table, &mut pairs)?;
    let line = |key: &str| lines.get(key).copied().unwrap_or(1);
    Ok(pairs.into_iter().map(|(key, value)| Pair { line: line(&key), key, value }).collect())
}

/// The line of each key of `table`.
fn find_lines(prefix: &str, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (name, value) in table {
        let key = join(prefix, name.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            find_lines(&key, inner, text, lines);
        } else {
            let before = text.get(..name.span().start).unwrap_or_default();
            lines.insert(key, before.matches('\n').count() + 1);
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn walk(prefix: &str, table: &Table, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    for (name, value) in table {
        let key = join(prefix, name);
        match value {
            Value::Table(inner) => walk(&key, inner, pairs)?,
            Value::Array(parts) => {
                let texts: Option<Vec<String>> = parts.iter().map(scalar).collect();
                let texts = texts.ok_or_else(|| format!("{key}: a list holds only texts and numbers"))?;
                pairs.push((key, texts.join(",")));
            }
            other => {
                let text = scalar(other).ok_or_else(|| format!("{key}: a date is no value of any key"))?;
                pairs.push((key, text));
            }
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Float(x) => Some(x.to_string()),
        Value::Boolean(b) => Some(b.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
