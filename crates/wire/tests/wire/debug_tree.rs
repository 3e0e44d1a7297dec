//! Debug output as a tree, so that values of two libraries' types can be compared by field name.
use model::TopicId;
use std::collections::BTreeMap;

/// A value without the names of its types: what wraps one value is that value, what is null, empty or
/// missing is `Empty`.
#[derive(Debug, PartialEq)]
pub(crate) enum Tree {
    Empty,
    Scalar(String),
    List(Vec<Tree>),
    Struct(BTreeMap<String, Tree>),
}

/// Parses what `{:?}` of derived types prints.
pub(crate) fn parse(debug: &str) -> Tree {
    let mut parser = Parser { rest: debug };
    let tree = parser.value();
    assert_eq!(parser.rest.trim(), "", "unread debug output");
    tree
}

/// The first difference, or `None`. Fields that only one side knows are not compared.
pub(crate) fn difference(ours: &Tree, theirs: &Tree, path: &str) -> Option<String> {
    match (ours, theirs) {
        (Tree::Struct(ours), Tree::Struct(theirs)) => theirs
            .iter()
            .filter_map(|(name, theirs)| Some((name, ours.get(name)?, theirs)))
            .find_map(|(name, ours, theirs)| difference(ours, theirs, &format!("{path}.{name}"))),
        (Tree::List(ours), Tree::List(theirs)) if ours.len() == theirs.len() => {
            let pairs = ours.iter().zip(theirs).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (ours, theirs))| difference(ours, theirs, &format!("{path}[{at}]")))
        }
        _ if ours == theirs => None,
        _ => Some(format!("{path}: {ours:?} against {theirs:?}")),
    }
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

    fn until(&mut self, end: impl Fn(char) -> bool) -> String {
        let at = self.rest.find(end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(at);
        self.rest = rest;
        word.to_owned()
    }

    fn value(&mut self) -> Tree {
        if self.eat("[") {
            return list(self.values("]"));
        }
        if self.eat("{") {
            assert!(self.eat("}"), "a map that is not empty");
            return Tree::Empty;
        }
        if self.eat("b\"") || self.eat("\"") {
            return self.text();
        }
        let word = self.until(|c| "([{}]), ".contains(c));
        if self.rest.starts_with(" {") {
            self.eat("{");
            return self.structure();
        }
        if self.eat("(") {
            let mut values = self.values(")");
            // Ours may be in pieces; bytes that were decoded are in one.
            if let ("Records", [Tree::List(pieces)]) = (word.as_str(), values.as_mut_slice()) {
                values = std::mem::take(pieces);
            }
            return if values.len() == 1 { values.remove(0) } else { Tree::List(values) };
        }
        scalar(word)
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
        let mut fields = BTreeMap::new();
        while !self.eat("}") {
            self.rest = self.rest.trim_start();
            let name = self.until(|c| c == ':');
            assert!(self.eat(":"));
            let value = self.value();
            if name != "unknown_tagged_fields" {
                fields.insert(name, value);
            }
            self.eat(",");
        }
        Tree::Struct(fields)
    }

    fn text(&mut self) -> Tree {
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return if text.is_empty() { Tree::Empty } else { Tree::Scalar(text) };
                }
                '\\' => text.extend(['\\', chars.next().unwrap().1]),
                c => text.push(c),
            }
        }
        panic!("text without an end");
    }
}

fn list(values: Vec<Tree>) -> Tree {
    if values.is_empty() { Tree::Empty } else { Tree::List(values) }
}

/// Both libraries print ids in their own way; bytes are common ground.
fn scalar(word: String) -> Tree {
    let bytes = |bytes: &[u8]| Tree::List(bytes.iter().map(|b| Tree::Scalar(b.to_string())).collect());
    if word == "None" {
        return Tree::Empty;
    }
    if let Ok(id) = TopicId::parse(&word) {
        return bytes(&id.0);
    }
    let hex: String = word.chars().filter(|c| *c != '-').collect();
    if word.len() == 36 && hex.len() == 32 {
        return bytes(&u128::from_str_radix(&hex, 16).unwrap().to_be_bytes());
    }
    Tree::Scalar(word)
}
