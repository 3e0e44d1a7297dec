//! `plimsoll topic delete`.
use super::super::connect::{ConnectArgs, advise};
use super::super::format::FormatArgs;
use clap::Args;
use model::ErrorCode;
use serde_json::json;

/// Delete topics with all their records.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll topic delete orders
  plimsoll topic delete orders payments --if-exists")]
pub(crate) struct DeleteArgs {
    /// Names.
    #[arg(required = true)]
    names: Vec<String>,
    /// Accept a topic that is not there.
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let mut deleted = Vec::new();
    for name in &args.names {
        match once(&client, name).await {
            Ok(()) => deleted.push(name.as_str()),
            Err(error) if args.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => {
                let error = advise(error);
                return Err(match deleted.as_slice() {
                    [] => error,
                    done => error.context(format!("deleted {}, then failed", done.join(", "))),
                });
            }
        }
    }
    let sentence = match deleted.as_slice() {
        [] => "Nothing to delete.".to_owned(),
        names => format!("Deleted {}.", names.join(", ")),
    };
    args.format.say(&sentence, &json!({ "deleted": deleted }))
}

/// Looks first: the missing topic of a deletion is an error that clients retry.
async fn once(client: &client_lite::Client, name: &str) -> Result<(), client_lite::ClientError> {
    client.topic(name).await?;
    client.delete_topic(name).await
}
