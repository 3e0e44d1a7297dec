//! Parses `protocol/kafka/*.schema`, `served.txt` and `unserved.txt`; the notation is described in the README there.
//!
//! Knows nothing of Rust output: the tests of `wire` use this file too, to make messages from the facts alone.
#![allow(dead_code)]
use std::path::Path;

/// A set of versions: an inclusive range; empty when `min > max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The lowest.
    pub(crate) min: i16,
    /// The highest; `i16::MAX` for "and on".
    pub(crate) max: i16,
}

impl Versions {
    /// No version at all.
    pub(crate) const NONE: Versions = Versions { min: 1, max: 0 };

    /// Whether the set has this version.
    pub(crate) fn has(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether the set has no version.
    pub(crate) fn is_empty(self) -> bool {
        self.min > self.max
    }

    /// Whether the set has every version of `other`.
    pub(crate) fn covers(self, other: Versions) -> bool {
        other.is_empty() || (self.min <= other.min && other.max <= self.max)
    }

    /// The versions in both.
    pub(crate) fn and(self, other: Versions) -> Versions {
        Versions { min: self.min.max(other.min), max: self.max.min(other.max) }
    }

    fn parse(text: &str) -> Result<Versions, String> {
        let number = |t: &str| t.parse::<i16>().map_err(|_| format!("`{text}` is no set of versions"));
        if text == "none" {
            return Ok(Versions::NONE);
        }
        if let Some(min) = text.strip_suffix('+') {
            return Ok(Versions { min: number(min)?, max: i16::MAX });
        }
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        Ok(Versions { min: number(min)?, max: number(max)? })
    }
}

/// A field of a message or struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Kafka's name, `PartitionIndex`.
    pub(crate) name: String,
    /// The type without `[]`.
    pub(crate) ty: String,
    /// Whether it is an array of that type.
    pub(crate) array: bool,
    /// Versions that have the field.
    pub(crate) versions: Versions,
    /// Versions in which it may be null.
    pub(crate) nullable: Versions,
    /// Tag, and the versions that send the field so.
    pub(crate) tag: Option<(u32, Versions)>,
    /// The default as written, if any.
    pub(crate) default: Option<String>,
    /// A writer may drop it when the version lacks it.
    pub(crate) ignorable: bool,
    /// Never compact.
    pub(crate) never_flexible: bool,
    /// The fields of a struct.
    pub(crate) fields: Vec<Field>,
}

impl Field {
    /// Whether the type is a struct.
    pub(crate) fn is_struct(&self) -> bool {
        self.ty.starts_with(|c: char| c.is_ascii_uppercase())
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request's body.
    Request,
    /// A response's body.
    Response,
    /// A header.
    Header,
    /// A record, an opaque blob, or a body of an API that is not served yet.
    Data,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Kafka's name, `ProduceRequest`.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) kind: Kind,
    /// Versions that exist; reduced to those served by [`Protocol::load`].
    pub(crate) versions: Versions,
    /// Versions with compact lengths and tagged fields.
    pub(crate) flexible: Versions,
    /// The fields.
    pub(crate) fields: Vec<Field>,
}

/// A served API.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// Kafka's number.
    pub(crate) key: i16,
    /// Kafka's name, `Produce`.
    pub(crate) name: String,
    /// Versions served.
    pub(crate) served: Versions,
    /// Versions advertised.
    pub(crate) advertised: Versions,
}

/// Everything in `protocol/kafka`.
#[derive(Debug, Default)]
pub(crate) struct Protocol {
    /// By ascending key.
    pub(crate) apis: Vec<Api>,
    /// All messages.
    pub(crate) messages: Vec<Message>,
}

impl Protocol {
    /// Reads the directory; an error names the file and line.
    pub(crate) fn load(dir: &Path) -> Result<Protocol, String> {
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
        let mut protocol =
            Protocol { apis: parse_served(&read(&dir.join("served.txt"))?)?, messages: vec![] };
        let unserved = parse_unserved(&read(&dir.join("unserved.txt"))?)?;
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .map_err(|e| e.to_string())?
            .filter_map(|e| e.ok().map(|e| e.path()))
            .collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "schema"));
        files.sort();
        for file in files {
            let (api, messages) =
                parse_schema(&read(&file)?).map_err(|e| format!("{}: {e}", file.display()))?;
            let served = api.as_ref().and_then(|(key, name)| {
                protocol.apis.iter().find(|api| api.key == *key && api.name == *name).map(|api| api.served)
            });
            let waits = api.as_ref().is_some_and(|api| unserved.contains(api));
            if let Some((key, name)) = api.filter(|_| served.is_some() == waits) {
                let where_to = "one of served.txt and unserved.txt";
                return Err(format!("{}: {name} ({key}) must be in {where_to}", file.display()));
            }
            for mut message in messages {
                let exists = message.versions;
                message.versions = served.unwrap_or(exists);
                if waits {
                    message.kind = Kind::Data;
                }
                if !exists.covers(message.versions) {
                    return Err(format!("{}: served versions that do not exist", message.name));
                }
                protocol.messages.push(message);
            }
        }
        Ok(protocol)
    }

    /// A message by Kafka's name.
    pub(crate) fn message(&self, name: &str) -> Option<&Message> {
        self.messages.iter().find(|message| message.name == name)
    }
}

fn parse_served(text: &str) -> Result<Vec<Api>, String> {
    let mut apis = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, name, served, rest @ ..] = words.as_slice() else {
            return Err(format!("served.txt: `{line}`"));
        };
        let served = Versions::parse(served)?;
        let advertised = rest.first().map_or(Ok(served), |text| Versions::parse(text))?;
        let key = key.parse().map_err(|_| format!("served.txt: `{line}`"))?;
        apis.push(Api { key, name: (*name).to_owned(), served, advertised });
    }
    apis.sort_by_key(|api| api.key);
    Ok(apis)
}

fn parse_unserved(text: &str) -> Result<Vec<(i16, String)>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (key, name) = line.split_once(' ').ok_or_else(|| format!("unserved.txt: `{line}`"))?;
            let key = key.parse().map_err(|_| format!("unserved.txt: `{line}`"))?;
            Ok((key, name.to_owned()))
        })
        .collect()
}

type Schema = (Option<(i16, String)>, Vec<Message>);

fn parse_schema(text: &str) -> Result<Schema, String> {
    let mut api = None;
    let mut messages: Vec<Message> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |e: String| format!("line {}: {e}", number + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let depth = (line.len() - line.trim_start().len()) / 2;
            let message = messages.last_mut().ok_or_else(|| at("field outside of a message".into()))?;
            let field = parse_field(&words).map_err(at)?;
            nest(&mut message.fields, depth, field).map_err(at)?;
        } else if let ["api", key, name] = words.as_slice() {
            api = Some((key.parse().map_err(|_| at("bad key".into()))?, (*name).to_owned()));
        } else {
            messages.push(parse_message(&words).map_err(at)?);
        }
    }
    Ok((api, messages))
}

fn parse_message(words: &[&str]) -> Result<Message, String> {
    let [kind, name, versions, "flexible", flexible] = words else {
        return Err("expected `KIND NAME VERSIONS flexible VERSIONS`".into());
    };
    let kind = match *kind {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "data" => Kind::Data,
        other => return Err(format!("unknown kind `{other}`")),
    };
    let (versions, flexible) = (Versions::parse(versions)?, Versions::parse(flexible)?);
    Ok(Message { name: (*name).to_owned(), kind, versions, flexible, fields: Vec::new() })
}

fn parse_field(words: &[&str]) -> Result<Field, String> {
    let [name, ty, versions, attributes @ ..] = words else {
        return Err("expected `NAME TYPE VERSIONS`".into());
    };
    let mut field = Field {
        name: (*name).to_owned(),
        ty: ty.trim_start_matches("[]").to_owned(),
        array: ty.starts_with("[]"),
        versions: Versions::parse(versions)?,
        nullable: Versions::NONE,
        tag: None,
        default: None,
        ignorable: false,
        never_flexible: false,
        fields: Vec::new(),
    };
    let mut words = attributes.iter();
    let mut next = |what: &str| words.next().copied().ok_or_else(|| format!("{what} is missing"));
    while let Ok(word) = next("attribute") {
        match word {
            "nullable" => field.nullable = Versions::parse(next("nullable")?)?,
            "tag" => {
                let tag = next("tag")?.parse().map_err(|_| "bad tag".to_owned())?;
                field.tag = Some((tag, Versions::parse(next("tag versions")?)?));
            }
            "default" => field.default = Some(next("default")?.to_owned()),
            "flexible" => field.never_flexible = next("flexible")? == "none",
            "ignorable" => field.ignorable = true,
            "key" => {}
            other => return Err(format!("unknown attribute `{other}`")),
        }
    }
    Ok(field)
}

fn nest(fields: &mut Vec<Field>, depth: usize, field: Field) -> Result<(), String> {
    if depth <= 1 {
        fields.push(field);
        return Ok(());
    }
    let parent = fields.last_mut().filter(|parent| parent.is_struct()).ok_or("indented below no struct")?;
    nest(&mut parent.fields, depth - 1, field)
}

/// `PartitionIndex` as `partition_index`.
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        before = c;
    }
    out
}
