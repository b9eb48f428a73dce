//! `tandem group`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use clap::Subcommand;
use tandem_api::VmRef;
use tandem_api::endpoints::{CREATE_GROUP, DELETE_GROUP, GROUPS};
use tandem_api::groups::NewGroup;
use tandem_api::views::GroupRecord;

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Let VMs talk to each other.
    Create {
        /// The VMs, at least two: each by its number, its name or its address.
        #[arg(required = true, num_args = 2..)]
        members: Vec<VmRef>,
    },
    /// List all groups.
    List,
    /// Isolate the VMs of a group again.
    Delete {
        /// Its number.
        group: u64,
    },
}

/// `tandem group`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, command: GroupCommand) -> anyhow::Result<()> {
    let client = global.client();
    match command {
        GroupCommand::Create { members } => {
            let group = client.send(CREATE_GROUP.with(&NewGroup { members })).await?.body;
            println!("{}", group.id);
        }
        GroupCommand::List => {
            let groups = client.send(GROUPS.request()).await?.body;
            if global.json {
                return print_json(&groups);
            }
            let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
            print!("{}", table(&["group", "members"], &rows));
        }
        GroupCommand::Delete { group } => {
            client.send(DELETE_GROUP.at(&[&group])).await?;
        }
    }
    Ok(())
}

fn row(group: &GroupRecord) -> Vec<String> {
    let members: Vec<String> = group.members.iter().map(ToString::to_string).collect();
    vec![group.id.to_string(), members.join(" ")]
}
