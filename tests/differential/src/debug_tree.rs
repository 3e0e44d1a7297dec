//! Debug output of derived types as a tree: every message has it, with all its fields by name.

/// A value without the names of its types; what wraps one value is that value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// A number, a word or a quoted text.
    Word(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Struct(Vec<(String, Tree)>),
}

/// Parses what `{:?}` of derived types prints.
pub(crate) fn parse(debug: &str) -> Tree {
    let mut parser = Parser { rest: debug };
    let tree = parser.value();
    assert_eq!(parser.rest.trim(), "", "unread debug output");
    tree
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn until(&mut self, end: &str) -> String {
        let at = self.rest.find(|c| end.contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(at);
        self.rest = rest;
        word.to_owned()
    }

    fn value(&mut self) -> Tree {
        if self.eat("[") {
            return Tree::List(self.values("]"));
        }
        if self.eat("b\"") {
            return Tree::Bytes(unescape(&self.text()));
        }
        if self.eat("\"") {
            return Tree::Word(format!("\"{}\"", self.text()));
        }
        let word = self.until("([{}]), ");
        if self.rest.starts_with(" {") {
            self.eat("{");
            return self.structure();
        }
        if self.eat("(") {
            let mut values = self.values(")");
            return if values.len() == 1 { values.remove(0) } else { Tree::List(values) };
        }
        Tree::Word(word)
    }

    fn values(&mut self, end: &str) -> Vec<Tree> {
        let mut values = Vec::new();
        while !self.eat(end) {
            values.push(self.value());
            self.eat(",");
        }
        values
    }

    fn structure(&mut self) -> Tree {
        let mut fields = Vec::new();
        while !self.eat("}") {
            self.rest = self.rest.trim_start();
            let name = self.until(":");
            self.eat(":");
            let value = self.value();
            fields.push((name, value));
            self.eat(",");
        }
        Tree::Struct(fields)
    }

    /// Up to the closing quote, escapes left as they are.
    fn text(&mut self) -> String {
        let mut escaped = false;
        let end = self.rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(self.rest.len());
        let text = self.rest[..end].to_owned();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        text
    }
}

/// The bytes of a byte string literal.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(b'x') => {
                    let mut digit = || bytes.next().and_then(|d| (d as char).to_digit(16)).unwrap_or(0) as u8;
                    digit() << 4 | digit()
                }
                other => other.unwrap_or(b'\\'),
            },
            byte => byte,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[derive(Debug)]
    #[allow(dead_code)]
    struct Inner {
        name: Option<&'static str>,
        raw: Bytes,
    }

    #[derive(Debug)]
    #[allow(dead_code)]
    enum Outer {
        One(Vec<Inner>),
    }

    #[test]
    fn wrappers_vanish_and_bytes_are_bytes_again() {
        let raw: Vec<u8> = (0..=255).collect();
        let inner = Inner { name: Some("a \"b\\"), raw: raw.clone().into() };
        let tree = parse(&format!("{:?}", Outer::One(vec![inner, Inner { name: None, raw: Bytes::new() }])));
        let one = |name: &str, raw: Vec<u8>| {
            Tree::Struct(vec![("name".into(), Tree::Word(name.into())), ("raw".into(), Tree::Bytes(raw))])
        };
        // A list in a wrapper of one value is that list.
        assert_eq!(tree, Tree::List(vec![one("\"a \\\"b\\\\\"", raw), one("None", vec![])]));
    }
}
