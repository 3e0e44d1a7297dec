//! What commands print.
use super::table::Table;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For scripts: one document.
    Json,
}

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Shape of the output.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl FormatArgs {
    /// Prints `table` for people or `document` for scripts.
    pub(crate) fn print(&self, table: &Table, document: &Value) -> anyhow::Result<()> {
        match self.format {
            Format::Table => print_text(&table.to_string()),
            Format::Json => print_text(&format!("{document:#}\n")),
        }
    }

    /// Prints a sentence for people or `document` for scripts.
    pub(crate) fn say(&self, sentence: &str, document: &Value) -> anyhow::Result<()> {
        match self.format {
            Format::Table => print_text(&format!("{sentence}\n")),
            Format::Json => print_text(&format!("{document:#}\n")),
        }
    }

    /// Prints prepared text for people or `document` for scripts.
    pub(crate) fn print_or(&self, text: &str, document: &Value) -> anyhow::Result<()> {
        match self.format {
            Format::Table => print_text(text),
            Format::Json => print_text(&format!("{document:#}\n")),
        }
    }
}

fn print_text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Whether the reader of our output is gone, as in `plimsoll ... | head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Bytes as JSON: text if they are text, otherwise `{"base64": ...}`; null stays null.
pub(crate) fn bytes_to_json(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => json!({ "base64": base64(bytes) }),
        },
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |acc, b| acc << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) & 63;
            out.push(if at <= group.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_become_base64() {
        assert_eq!(bytes_to_json(Some(b"abc")), json!("abc"));
        assert_eq!(bytes_to_json(None), Value::Null);
        for (bytes, text) in [(&b"\xff"[..], "/w=="), (b"\xff\xfe", "//4="), (b"\xff\xfe\xfd", "//79")] {
            assert_eq!(bytes_to_json(Some(bytes)), json!({ "base64": text }));
        }
    }
}
