//! TOML with Kafka's keys, written in one piece or as tables.
use toml::{Table, Value};

/// Keys with dots and their values as text, in the order of the keys.
pub(super) fn flatten(text: &str) -> Result<Vec<(String, String)>, String> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let mut pairs = Vec::new();
    walk("", &table, &mut pairs)?;
    Ok(pairs)
}

fn walk(prefix: &str, table: &Table, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
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
