//! Kafka's rules for topic names.
use crate::ItemError;
use model::ErrorCode;

/// Where groups keep their offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Where transactions keep their state.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Where share groups keep their state.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// Kafka's name of the metadata log; never a topic.
pub(crate) const CLUSTER_METADATA: &str = "__cluster_metadata";

const MAX_LENGTH: usize = 249;

/// Whether clients may not produce to this topic.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// The form in which colliding names are equal: metric names do not tell '.' from '_'.
pub fn unify_collision_chars(name: &str) -> String {
    name.replace('.', "_")
}

/// INVALID_TOPIC_EXCEPTION with Kafka's text when `name` is no legal topic name.
pub fn validate_topic_name(name: &str) -> Result<(), ItemError> {
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        _ if name.encode_utf16().count() > MAX_LENGTH => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_LENGTH}")
        }
        _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => {
            return Ok(());
        }
        _ => format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
    };
    Err(ItemError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_does() {
        for good in ["a", "A-1_b.c", &"x".repeat(249), "__consumer_offsets", "..."] {
            assert_eq!(validate_topic_name(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("", "Topic name is invalid: the empty string is not allowed"),
            (".", "Topic name is invalid: '.' is not allowed"),
            ("..", "Topic name is invalid: '..' is not allowed"),
            (
                "a b",
                "Topic name is invalid: 'a b' contains one or more characters other than \
                 ASCII alphanumerics, '.', '_' and '-'",
            ),
        ] {
            let error = validate_topic_name(bad).unwrap_err();
            assert_eq!(
                (error.code, error.message.as_deref()),
                (ErrorCode::InvalidTopicException, Some(text))
            );
        }
        let long = validate_topic_name(&"x".repeat(250)).unwrap_err().message.unwrap();
        assert!(long.ends_with("is longer than the max allowed length 249"), "{long}");
        assert!(validate_topic_name("\u{e9}").is_err());
    }
}
