//! Requests made from the schemas alone, which remember where their lengths and counts stand.
use crate::schema::{Field, Message, Protocol};
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

/// Everything in `protocol/kafka`.
pub(crate) static PROTOCOL: LazyLock<Protocol> = LazyLock::new(|| {
    Protocol::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/kafka")).unwrap()
});

/// How a length or count is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Two bytes.
    Short,
    /// Four bytes.
    Long,
    /// An unsigned varint: compact lengths and counts, tagged fields' counts, numbers and sizes.
    Varint,
}

/// Where one length or count stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) at: Range<usize>,
    pub(crate) form: Form,
}

/// A body and its places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Vec<Place>,
}

/// A tag that no schema knows.
const UNKNOWN_TAG: u32 = 9_999;

/// A whole body of `version`: every field is there, arrays have two items, and every struct of a flexible
/// version has one unknown tagged field behind those it knows.
pub(crate) fn body(message: &Message, version: i16) -> Body {
    let mut body = Body::default();
    body.structure(&message.fields, version, message.flexible.has(version));
    body
}

/// An unsigned varint.
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

impl Body {
    fn structure(&mut self, fields: &[Field], version: i16, flexible: bool) {
        let tag_of =
            |field: &Field| field.tag.filter(|(_, versions)| versions.has(version)).map(|(tag, _)| tag);
        let mut tagged = Vec::new();
        for field in fields.iter().filter(|field| field.versions.has(version)) {
            match tag_of(field) {
                Some(tag) => tagged.push((tag, field)),
                None => self.value(field, version, flexible),
            }
        }
        if flexible {
            tagged.sort_by_key(|(tag, _)| *tag);
            self.length(tagged.len() + 1, Form::Varint);
            for (tag, field) in tagged {
                let mut content = Body::default();
                content.value(field, version, flexible);
                self.tag(tag, content);
            }
            self.tag(UNKNOWN_TAG, Body { bytes: vec![7; 3], places: Vec::new() });
        }
    }

    fn tag(&mut self, tag: u32, content: Body) {
        self.length(tag as usize, Form::Varint);
        self.length(content.bytes.len(), Form::Varint);
        let base = self.bytes.len();
        self.bytes.extend(content.bytes);
        let moved = |place: Place| Place { at: place.at.start + base..place.at.end + base, ..place };
        self.places.extend(content.places.into_iter().map(moved));
    }

    fn length(&mut self, value: usize, form: Form) {
        let start = self.bytes.len();
        match form {
            Form::Short => self.bytes.extend((value as u16).to_be_bytes()),
            Form::Long => self.bytes.extend((value as u32).to_be_bytes()),
            Form::Varint => self.bytes.extend(varint(value as u64)),
        }
        self.places.push(Place { at: start..self.bytes.len(), form });
    }

    /// A length of something whose plain form is `plain`.
    fn sized(&mut self, len: usize, flexible: bool, plain: Form) {
        if flexible {
            self.length(len + 1, Form::Varint);
        } else {
            self.length(len, plain);
        }
    }

    fn value(&mut self, field: &Field, version: i16, flexible: bool) {
        let flexible = flexible && !field.never_flexible;
        if field.array {
            self.sized(2, flexible, Form::Long);
            self.one(field, version, flexible);
        }
        self.one(field, version, flexible);
    }

    fn one(&mut self, field: &Field, version: i16, flexible: bool) {
        let width = match field.ty.as_str() {
            "bool" | "int8" => 1,
            "int16" | "uint16" => 2,
            "int32" => 4,
            "int64" => 8,
            "uuid" => 16,
            "string" | "bytes" | "records" => {
                let plain = if field.ty == "string" { Form::Short } else { Form::Long };
                let text = b"bomb";
                self.sized(text.len(), flexible, plain);
                return self.bytes.extend(text);
            }
            _ => {
                if !field.nullable.is_empty() && !field.array {
                    self.bytes.push(1);
                }
                return self.structure(&field.fields, version, flexible);
            }
        };
        let start = self.bytes.len();
        self.bytes.resize(start + width, 0);
        self.bytes[start + width - 1] = 1;
    }
}

/// What stands in a place of `form` with `left` bytes behind it, to do harm.
pub(crate) fn bombs(form: Form, left: usize) -> Vec<Vec<u8>> {
    match form {
        Form::Short => {
            [i16::MAX, i16::MIN, -1, -2, left.min(32_000) as i16 + 1].map(|n| n.to_be_bytes().to_vec()).into()
        }
        Form::Long => {
            let numbers =
                [i32::MAX, i32::MIN, -1, -2, 1_000_000, 1_000_001, 1 << 28, left as i32 + 1, left as i32];
            numbers.map(|n| n.to_be_bytes().to_vec()).into()
        }
        Form::Varint => {
            let numbers = [
                u64::from(u32::MAX),
                1 << 31,
                (1 << 31) - 1,
                1_000_001,
                10_000,
                left as u64 + 2,
                left as u64,
                1 << 33,
                0,
            ];
            let mut all = numbers.map(varint).to_vec();
            all.push(vec![0xff; 9]);
            all.push(vec![0x80, 0x80, 0x80, 0x80, 0]);
            all
        }
    }
}
