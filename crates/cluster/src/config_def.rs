//! The shape of a config definition. The tables are in [`crate::config_defs`].

/// Kafka's config types, as DescribeConfigs numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A decimal number.
    Double,
    /// Comma-separated.
    List,
    /// A Java class; kept as text.
    Class,
    /// A secret: never shown.
    Password,
}

impl ConfigType {
    /// Kafka's number in DescribeConfigs.
    pub fn to_wire(self) -> i8 {
        match self {
            ConfigType::Boolean => 1,
            ConfigType::String => 2,
            ConfigType::Int => 3,
            ConfigType::Short => 4,
            ConfigType::Long => 5,
            ConfigType::Double => 6,
            ConfigType::List => 7,
            ConfigType::Class => 8,
            ConfigType::Password => 9,
        }
    }

    /// Kafka's name, `LONG` for example.
    pub fn name(self) -> &'static str {
        match self {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
            ConfigType::Class => "CLASS",
            ConfigType::Password => "PASSWORD",
        }
    }
}

/// Which values are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    /// All of the type.
    Any,
    /// Numbers from the first to the second.
    Range(i64, i64),
    /// All numbers but 0: below it, never.
    NotZero,
    /// Decimal numbers from the first to the second.
    Decimal(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of these words; may be empty.
    ListOf(&'static [&'static str]),
    /// 1 to 9, or -1 for the codec's own default.
    GzipLevel,
    /// Some text.
    NonEmpty,
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:` with an ISO 8601 duration.
    OffsetReset,
}

/// How a broker config may change while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// Only in the file, at start.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// Whether a config does anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something reads it.
    Applies,
    /// It is checked, stored and echoed; nothing reads it. The text says why.
    Accepted(&'static str),
}

/// What one of the synonym is in the unit of the config itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The same unit.
    Same,
    /// Minutes, where the config has milliseconds.
    Minutes,
    /// Hours, where the config has milliseconds.
    Hours,
}

/// A broker config that stands in where the config itself is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Its name.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
}

/// One config: all that describe, alter and the documentation need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigDef {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type.
    pub kind: ConfigType,
    /// What holds when nobody sets it; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Allowed values.
    pub valid: Valid,
    /// How it may change (broker configs).
    pub dynamic: Dynamic,
    /// Whether something reads it.
    pub effect: Effect,
    /// Broker configs that stand in, first wins; for a broker config its family, itself included.
    pub synonyms: &'static [Synonym],
    /// Not shown unless it is set.
    pub internal: bool,
    /// Not a config of Kafka's.
    pub ours: bool,
    /// What it does, in a sentence.
    pub doc: &'static str,
}

impl ConfigDef {
    pub(crate) const fn new(
        name: &'static str,
        kind: ConfigType,
        default: &'static str,
        valid: Valid,
        doc: &'static str,
    ) -> ConfigDef {
        ConfigDef {
            name,
            kind,
            default: Some(default),
            valid,
            dynamic: Dynamic::ReadOnly,
            effect: Effect::Applies,
            synonyms: &[],
            internal: false,
            ours: false,
            doc,
        }
    }

    /// Without a default.
    pub(crate) const fn null(
        name: &'static str,
        kind: ConfigType,
        valid: Valid,
        doc: &'static str,
    ) -> ConfigDef {
        let mut def = ConfigDef::new(name, kind, "", valid, doc);
        def.default = None;
        def
    }

    /// Checked, stored and echoed, read by nothing.
    pub(crate) const fn idle(mut self, why: &'static str) -> ConfigDef {
        self.effect = Effect::Accepted(why);
        self
    }

    pub(crate) const fn cluster_wide(mut self) -> ConfigDef {
        self.dynamic = Dynamic::ClusterWide;
        self
    }

    pub(crate) const fn per_broker(mut self) -> ConfigDef {
        self.dynamic = Dynamic::PerBroker;
        self
    }

    pub(crate) const fn hidden(mut self) -> ConfigDef {
        self.internal = true;
        self
    }

    pub(crate) const fn ours(mut self) -> ConfigDef {
        self.ours = true;
        self
    }

    pub(crate) const fn synonyms(mut self, synonyms: &'static [Synonym]) -> ConfigDef {
        self.synonyms = synonyms;
        self
    }

    /// Whether its value is a secret.
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigType::Password
    }

    /// The sentence for DescribeConfigs and the documentation, with the note on what has no effect.
    pub fn documentation(&self) -> String {
        match self.effect {
            Effect::Applies => self.doc.to_owned(),
            Effect::Accepted(why) if self.doc.is_empty() => format!("Accepted, without effect here: {why}."),
            Effect::Accepted(why) => format!("{} Accepted, without effect here: {why}.", self.doc),
        }
    }
}

pub(crate) const fn same(name: &'static str) -> Synonym {
    Synonym { name, unit: Unit::Same }
}

pub(crate) const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, unit: Unit::Minutes }
}

pub(crate) const fn hours(name: &'static str) -> Synonym {
    Synonym { name, unit: Unit::Hours }
}
