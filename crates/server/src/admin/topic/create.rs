//! `plimsoll topic create`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use super::super::table::Table;
use super::key_value;
use crate::moves::view::View;
use clap::Args;
use client_lite::{Client, NewTopic};
use model::ErrorCode;
use serde_json::json;
use std::str::FromStr;

/// Create topics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic create orders
  plimsoll topic create orders payments -p 12 -r 3
  plimsoll topic create users -c cleanup.policy=compact -c max.message.bytes=2097152")]
pub(crate) struct CreateArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Number of partitions; otherwise, and with -1, the broker's num.partitions.
    #[arg(short, long, value_parser = count::<i32>, allow_negative_numbers = true)]
    partitions: Option<i32>,
    /// Replicas of each partition; otherwise, and with -1, the broker's default.replication.factor.
    #[arg(short, long, value_parser = count::<i16>, allow_negative_numbers = true)]
    replication_factor: Option<i16>,
    /// Configuration, KEY=VALUE; may be repeated.
    #[arg(
        short,
        long = "config",
        visible_alias = "set",
        visible_short_alias = 's',
        value_parser = key_value,
        value_name = "KEY=VALUE"
    )]
    configs: Vec<(String, String)>,
    /// Accept a topic that is there already.
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether it could be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A number from 1 up, or Kafka's -1: what the broker is configured to.
fn count<N: FromStr + Into<i64> + Copy>(text: &str) -> Result<N, String> {
    let number = text.parse::<N>().ok().filter(|n| matches!((*n).into(), -1 | 1..));
    number.ok_or_else(|| "a number from 1 up, or -1 for the broker's default".to_owned())
}

/// Runs the command.
pub(crate) async fn run(args: CreateArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let mut table = Table::new(&["TOPIC", "#PARTITIONS", "#REPLICAS", "RESULT"]);
    let mut rows = Vec::new();
    for name in &args.names {
        let result = create(&client, &args, name).await?;
        let (partitions, replicas) = if args.dry_run { (None, None) } else { size(&client, name).await? };
        let show = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.push([name.clone(), show(partitions), show(replicas), result.to_owned()]);
        rows.push(json!({
            "topic": name, "partitions": partitions, "replicationFactor": replicas, "result": result,
        }));
    }
    args.format.print(&table, &json!(rows))?;
    if rows.iter().any(|row| row["replicationFactor"] == 2 && row["result"] == "created") {
        let view = View::ask(&client).await?;
        let lacking = view.without_witness();
        for name in args.names.iter().filter(|name| lacking.iter().any(|(topic, _)| topic == *name)) {
            eprintln!(
                "{name}: two replicas and no third broker for a witness: the loss of one broker or disk stops it. It \
                 gets a witness when a third broker joins."
            );
        }
    }
    Ok(())
}

async fn create(client: &Client, args: &CreateArgs, name: &str) -> anyhow::Result<&'static str> {
    let topic = NewTopic {
        name: name.to_owned(),
        // -1 says the same as nothing.
        partitions: args.partitions.filter(|n| *n > 0),
        replication_factor: args.replication_factor.filter(|n| *n > 0),
        assignment: Vec::new(),
        configs: args.configs.clone(),
    };
    match client.create_topic(&topic, args.dry_run).await {
        Ok(()) if args.dry_run => Ok("would be created"),
        Ok(()) => Ok("created"),
        Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            Ok("exists")
        }
        Err(error) => Err(advise(error)),
    }
}

/// What the broker made of it, once its partitions have leaders.
async fn size(client: &Client, name: &str) -> anyhow::Result<(Option<usize>, Option<usize>)> {
    let topic = client.topic_created(name).await.map_err(advise)?;
    Ok((Some(topic.partitions.len()), topic.partitions.first().map(|p| p.replicas.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    #[test]
    fn minus_one_is_the_brokers_default_and_no_other_number_below_one_is_taken() {
        let parse = |words: &[&str]| Line::try_parse_from([&["create", "t"], words].concat());
        let args = parse(&["-r", "-1", "-p", "-1"]).unwrap().args;
        assert_eq!((args.partitions, args.replication_factor), (Some(-1), Some(-1)));
        let args = parse(&["-p", "12", "--replication-factor=-1"]).unwrap().args;
        assert_eq!((args.partitions, args.replication_factor), (Some(12), Some(-1)));
        for bad in [["-r", "0"], ["-p", "0"], ["-p", "-2"], ["-r", "40000"], ["-p", "x"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
