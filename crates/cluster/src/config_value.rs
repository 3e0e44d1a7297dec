//! Reading a config's text as its type, with Kafka's messages for what does not fit.
use crate::config_def::{ConfigDef, ConfigType, Valid};

/// A parsed config value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// BOOLEAN.
    Bool(bool),
    /// INT, SHORT and LONG.
    Int(i64),
    /// DOUBLE.
    Double(f64),
    /// STRING, CLASS and PASSWORD.
    Text(String),
    /// LIST.
    List(Vec<String>),
}

/// Why a value does not fit; Kafka's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Value {
    /// The text form that DescribeConfigs sends.
    pub fn to_text(&self) -> String {
        match self {
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Double(d) => java_double(*d),
            Value::Text(s) => s.clone(),
            Value::List(l) => l.join(","),
        }
    }
}

/// Java prints large and small doubles in its own way; defaults must look alike.
fn java_double(d: f64) -> String {
    if d == d.trunc() && d.abs() < 1e7 {
        return format!("{d:.1}");
    }
    if d != 0.0 && (d.abs() >= 1e7 || d.abs() < 1e-3) {
        let text = format!("{d:E}");
        return match text.split_once('E') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
            _ => text,
        };
    }
    d.to_string()
}

fn invalid(def: &ConfigDef, value: &str, why: &str) -> ConfigError {
    ConfigError(format!("Invalid value {value} for configuration {}: {why}", def.name))
}

/// Parses `text` as `def` says and checks its range.
pub fn parse_value(def: &ConfigDef, text: &str) -> Result<Value, ConfigError> {
    let trimmed = text.trim();
    let value = match def.kind {
        ConfigType::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Bool(true),
        ConfigType::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Bool(false),
        ConfigType::Boolean => {
            return Err(invalid(def, trimmed, "Expected value to be either true or false"));
        }
        ConfigType::Int => number(def, trimmed, i64::from(i32::MIN), i64::from(i32::MAX))?,
        ConfigType::Short => number(def, trimmed, i64::from(i16::MIN), i64::from(i16::MAX))?,
        ConfigType::Long => number(def, trimmed, i64::MIN, i64::MAX)?,
        ConfigType::Double => match trimmed.parse::<f64>() {
            Ok(d) => Value::Double(d),
            Err(_) => return Err(invalid(def, trimmed, "Not a number of type DOUBLE")),
        },
        ConfigType::String | ConfigType::Class | ConfigType::Password => Value::Text(trimmed.to_owned()),
        ConfigType::List => Value::List(distinct(split_list(trimmed))),
    };
    check(def, &value, trimmed)?;
    Ok(value)
}

fn number(def: &ConfigDef, text: &str, min: i64, max: i64) -> Result<Value, ConfigError> {
    match text.parse::<i64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(Value::Int(n)),
        _ => Err(invalid(def, text, &format!("Not a number of type {}", def.kind.name()))),
    }
}

/// The parts of a comma-separated value; the empty text has none.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|p| p.trim().to_owned()).collect()
}

/// Kafka drops repeated parts of a list.
fn distinct(parts: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(parts.len());
    for part in parts {
        if !kept.contains(&part) {
            kept.push(part);
        }
    }
    kept
}

fn check(def: &ConfigDef, value: &Value, text: &str) -> Result<(), ConfigError> {
    match (def.valid, value) {
        (Valid::Range(min, _), Value::Int(n)) if *n < min => {
            Err(invalid(def, text, &format!("Value must be at least {min}")))
        }
        (Valid::Range(_, max), Value::Int(n)) if *n > max => {
            Err(invalid(def, text, &format!("Value must be no more than {max}")))
        }
        (Valid::NotZero, Value::Int(0)) => {
            Err(invalid(def, text, "must be unlimited (-1) or, equal or greater than 1"))
        }
        (Valid::Decimal(min, _), Value::Double(d)) if *d < min || d.is_nan() => {
            Err(invalid(def, &java_double(*d), &format!("Value must be at least {min}")))
        }
        (Valid::Decimal(_, max), Value::Double(d)) if *d > max => {
            Err(invalid(def, &java_double(*d), &format!("Value must be no more than {max}")))
        }
        (Valid::OneOf(words), Value::Text(s)) if !words.contains(&s.as_str()) => {
            Err(invalid(def, text, &format!("String must be one of: {}", words.join(", "))))
        }
        (Valid::OneOfAnyCase(words), Value::Text(s)) if !words.iter().any(|w| w.eq_ignore_ascii_case(s)) => {
            Err(invalid(
                def,
                text,
                &format!("String must be one of (case insensitive): {}", words.join(", ")),
            ))
        }
        (Valid::ListOf(words), Value::List(parts)) => check_list(def, words, parts),
        (Valid::GzipLevel, Value::Int(n)) if *n != -1 && !(1..=9).contains(n) => {
            Err(invalid(def, text, "Value must be between 1 and 9 or equal to -1"))
        }
        (Valid::NonEmpty, Value::Text(s)) if s.is_empty() => {
            Err(invalid(def, text, "String must be non-empty"))
        }
        (Valid::ThrottledReplicas, Value::List(parts)) if !throttled_replicas(parts) => {
            let list = format!("[{}]", parts.join(", "));
            let why = format!(
                "{} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                def.name
            );
            Err(invalid(def, &list, &why))
        }
        (Valid::OffsetReset, Value::Text(s)) if !offset_reset(s) => {
            let why = format!(
                "Invalid value `{text}` for configuration {}. The value must be either 'earliest', 'latest' or of \
                 the format 'by_duration:<PnDTnHnMn.nS>'.",
                def.name
            );
            Err(invalid(def, text, &why))
        }
        _ => Ok(()),
    }
}

fn check_list(def: &ConfigDef, words: &[&str], parts: &[String]) -> Result<(), ConfigError> {
    if parts.iter().any(String::is_empty) {
        return Err(ConfigError(format!("Configuration '{}' values must not be empty.", def.name)));
    }
    match parts.iter().find(|p| !words.contains(&p.as_str())) {
        Some(bad) => Err(invalid(def, bad, &format!("String must be one of: {}", words.join(", ")))),
        None => Ok(()),
    }
}

fn throttled_replicas(parts: &[String]) -> bool {
    if parts.len() == 1 && parts[0] == "*" {
        return true;
    }
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    parts.iter().all(|p| p.split_once(':').is_some_and(|(a, b)| digits(a) && digits(b)))
}

fn offset_reset(text: &str) -> bool {
    if matches!(text, "earliest" | "latest") {
        return true;
    }
    let Some(duration) = text.strip_prefix("by_duration:").and_then(|d| d.strip_prefix(['P', 'p'])) else {
        return false;
    };
    let (days, time) = duration.split_once(['T', 't']).map_or((duration, None), |(d, t)| (d, Some(t)));
    let fields = |s: &str, units: &str| {
        s.split_inclusive(|c: char| c.is_ascii_alphabetic()).all(|f| {
            let (number, unit) = f.split_at(f.len().saturating_sub(1));
            number.parse::<f64>().is_ok_and(|n| n >= 0.0) && units.contains(&unit.to_ascii_uppercase())
        })
    };
    (days.is_empty() || fields(days, "D"))
        && time.is_none_or(|t| !t.is_empty() && fields(t, "HMS"))
        && duration.len() > 1
}
