//! Messages made from the schema alone: a third reading of the facts beside both codecs.
use crate::schema::{Field, Message, Protocol};
use std::path::Path;
use std::sync::LazyLock;

/// Everything in `protocol/kafka`.
pub(crate) static PROTOCOL: LazyLock<Protocol> = LazyLock::new(|| {
    Protocol::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/kafka")).unwrap()
});

/// Tags from here on are not Kafka's.
const OWN_TAGS: u32 = 10_000;

/// Bytes that decide what a message looks like; when they run out it ends in zeros and empty arrays.
pub(crate) struct Entropy<'a>(pub(crate) &'a [u8]);

impl Entropy<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self, out: &mut [u8]) {
        // Small numbers are as likely as wide ones.
        match self.byte() {
            first @ 0..128 => *out.last_mut().unwrap() = first,
            _ => out.iter_mut().for_each(|byte| *byte = self.byte()),
        }
    }
}

/// The canonical bytes of some message: what an encoder must give for it.
pub(crate) fn body(message: &Message, version: i16, entropy: &mut Entropy<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let flexible = message.flexible.has(version);
    structure(&message.fields, version, flexible, entropy, &mut out);
    out
}

fn structure(fields: &[Field], version: i16, flexible: bool, entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    let present = |field: &&Field| field.versions.has(version);
    let tag_of = |field: &Field| field.tag.filter(|(_, versions)| versions.has(version)).map(|(tag, _)| tag);
    for field in fields.iter().filter(present).filter(|field| tag_of(field).is_none()) {
        value(field, version, flexible, entropy, out);
    }
    if !flexible {
        return;
    }
    let mut tagged: Vec<(u32, Vec<u8>)> = Vec::new();
    for field in fields.iter().filter(present) {
        // The other codec does not know our own.
        let Some(tag) = tag_of(field).filter(|tag| *tag < OWN_TAGS) else { continue };
        let mut content = Vec::new();
        value(field, version, flexible, entropy, &mut content);
        if content != default(field, version) {
            tagged.push((tag, content));
        }
    }
    tagged.sort();
    varint(tagged.len() as u32, out);
    for (tag, content) in tagged {
        varint(tag, out);
        varint(content.len() as u32, out);
        out.extend(content);
    }
}

/// The bytes of a tagged field's default: such a field is not sent.
fn default(field: &Field, version: i16) -> Vec<u8> {
    let number = || -> i64 {
        match field.default.as_deref() {
            Some("true") => 1,
            None | Some("false" | "null" | "\"\"") => 0,
            Some(text) => text.parse().unwrap(),
        }
    };
    match field.ty.as_str() {
        // A struct that is null is the byte -1.
        name if field.default.as_deref() == Some("null")
            && !field.array
            && name.starts_with(char::is_uppercase) =>
        {
            vec![0xff]
        }
        _ if field.default.as_deref() == Some("null") => vec![0],
        _ if field.array => vec![1],
        "bool" | "int8" => (number() as i8).to_be_bytes().into(),
        "int16" | "uint16" => (number() as i16).to_be_bytes().into(),
        "int32" => (number() as i32).to_be_bytes().into(),
        "int64" => number().to_be_bytes().into(),
        "uuid" => vec![0; 16],
        "string" | "bytes" => vec![1],
        _ => {
            let mut out: Vec<u8> = Vec::new();
            for inner in field.fields.iter().filter(|inner| inner.versions.has(version)) {
                assert!(inner.tag.is_none());
                out.extend(default(inner, version));
            }
            out.push(0);
            out
        }
    }
}

fn value(field: &Field, version: i16, flexible: bool, entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    let flexible = flexible && !field.never_flexible;
    let null = field.nullable.has(version) && entropy.byte() % 4 == 1;
    if !field.array {
        return one(field, version, flexible, null, entropy, out);
    }
    if null {
        return length(None, flexible, 4, out);
    }
    let count = usize::from(entropy.byte() % 4);
    length(Some(count), flexible, 4, out);
    (0..count).for_each(|_| one(field, version, flexible, false, entropy, out));
}

fn one(
    field: &Field,
    version: i16,
    flexible: bool,
    null: bool,
    entropy: &mut Entropy<'_>,
    out: &mut Vec<u8>,
) {
    let mut fixed = |width: usize| {
        let at = out.len();
        out.resize(at + width, 0);
        entropy.number(&mut out[at..]);
    };
    match field.ty.as_str() {
        "bool" => out.push(entropy.byte() % 2),
        "int8" => fixed(1),
        "int16" | "uint16" => fixed(2),
        "int32" => fixed(4),
        "int64" => fixed(8),
        "uuid" => fixed(16),
        "string" | "bytes" | "records" => {
            let width = if field.ty == "string" { 2 } else { 4 };
            if null {
                return length(None, flexible, width, out);
            }
            let text = "a\u{e9}z".repeat(usize::from(entropy.byte() % 48));
            let text = match field.ty.as_str() {
                "string" => text.into_bytes(),
                _ => text.into_bytes().into_iter().map(|b| b ^ 0xa5).collect(),
            };
            length(Some(text.len()), flexible, width, out);
            out.extend(text);
        }
        _ => {
            if !field.nullable.is_empty() && !field.array {
                out.push(if null { 0xff } else { 1 });
            }
            if !null {
                structure(&field.fields, version, flexible, entropy, out);
            }
        }
    }
}

fn length(len: Option<usize>, flexible: bool, width: usize, out: &mut Vec<u8>) {
    match len {
        _ if flexible => varint(len.map_or(0, |len| len as u32 + 1), out),
        Some(len) => out.extend(&(len as u32).to_be_bytes()[4 - width..]),
        None => out.extend(std::iter::repeat_n(0xff, width)),
    }
}

fn varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
