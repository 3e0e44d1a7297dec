//! Commands that take several names: what fails for one does not keep the others from being done, or shown.
use super::connect::{ConnectArgs, Does};
use super::format::FormatArgs;
use anyhow::anyhow;
use client_lite::Client;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::pin::pin;

/// Names that are looked at side by side.
const AT_ONCE: usize = 16;

/// Looks at each name and shows those that are there, as text or as documents, before what failed of the others. `topic`:
/// the leaders of its partitions are asked.
pub(crate) async fn show_each(
    (connect, format): (&ConnectArgs, &FormatArgs),
    topic: &str,
    names: &[String],
    describe: impl AsyncFn(&Client, &str) -> anyhow::Result<(String, Value)>,
) -> anyhow::Result<()> {
    let (mut text, mut documents, mut failures) = (String::new(), Vec::new(), Failures::default());
    let mut found = BTreeMap::new();
    let look = async {
        let client = connect.client().await?;
        // Side by side: a coordinator that does not answer holds nobody else back.
        let one = async |(at, name): (usize, &String)| (at, describe(&client, name).await);
        let mut all = pin!(stream::iter(names.iter().enumerate()).map(one).buffer_unordered(AT_ONCE));
        while let Some((at, described)) = all.next().await {
            found.extend(failures.note(described).map(|described| (at, described)));
        }
        Ok(())
    };
    let looked = connect.within_leaders_of(&[topic], Does::Look, look).await;
    failures.note(looked);
    for (one, document) in found.into_values() {
        text.push_str(&one);
        documents.push(document);
    }
    if !documents.is_empty() {
        format.print_or(&text, &json!(documents))?;
    }
    failures.end()
}

/// What failed.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// What was done, or nothing and the error is kept.
    pub(crate) fn note<T>(&mut self, done: anyhow::Result<T>) -> Option<T> {
        done.map_err(|error| self.0.push(error)).ok()
    }

    /// All that failed as one error, a line or more for each.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => {
                let each: Vec<String> = self.0.iter().map(|error| format!("{error:#}")).collect();
                Err(anyhow!(each.join("\n")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_told() {
        assert!(Failures::default().end().is_ok());
        let mut failures = Failures::default();
        assert_eq!(failures.note(Ok(7)), Some(7));
        assert_eq!(failures.note::<()>(Err(anyhow!("no a"))), None);
        assert_eq!(failures.note::<()>(Err(anyhow!("no b").context("b failed"))), None);
        assert_eq!(failures.end().unwrap_err().to_string(), "no a\nb failed: no b");
    }
}
