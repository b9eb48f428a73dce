//! `tandem store`: a store while no controller runs on it.

use super::args::{GlobalArgs, print_json};
use crate::server::serve::read_site;
use crate::store;
use crate::store::check::Severity;
use crate::store::place::{self, Surroundings};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Which store.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The site file.
    #[arg(long)]
    pub site: PathBuf,
    /// The store's file; by default the one in the site's own place.
    #[arg(long)]
    pub store: Option<PathBuf>,
}

impl Which {
    pub(super) fn find(&self) -> anyhow::Result<(tandem_model::Site, PathBuf)> {
        let site = read_site(&self.site)?;
        let file = match &self.store {
            Some(file) => file.clone(),
            None => place::look_up(&site.name, &Surroundings::of_process())?,
        };
        Ok((site, file))
    }
}

/// What can be done with a store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Print where a site's store is.
    Path {
        /// The store that is meant.
        #[command(flatten)]
        which: Which,
    },
    /// List everything in a store that is damaged or does not fit its site.
    Check {
        /// The store that is meant.
        #[command(flatten)]
        which: Which,
    },
    /// Drop one record, after copying the store aside. What it stood for is not touched: it is only
    /// no longer known.
    Forget {
        /// The store that is meant.
        #[command(flatten)]
        which: Which,
        /// The record's table, as `tandem store check` names it: vm, group, port, migration,
        /// drained or shares.
        table: String,
        /// The record's number there.
        #[arg(allow_negative_numbers = true)]
        id: i64,
    },
}

/// `tandem store`; false when something is wrong with it.
///
/// # Errors
/// When the store cannot be read.
pub fn store(global: &GlobalArgs, command: StoreCommand) -> anyhow::Result<bool> {
    match command {
        StoreCommand::Path { which } => println!("{}", which.find()?.1.display()),
        StoreCommand::Check { which } => {
            let (site, file) = which.find()?;
            let found = store::examine(&file, &site)?;
            let faults = found.iter().filter(|f| f.severity == Severity::Fault).count();
            if global.json {
                let list: Vec<_> = found
                    .iter()
                    .map(|f| {
                        let fatal = f.severity == Severity::Fault;
                        serde_json::json!({ "table": f.table, "id": f.id, "fault": fatal, "what": f.what })
                    })
                    .collect();
                print_json(&list)?;
            } else {
                found.iter().for_each(|f| println!("{f}"));
                eprintln!("{}: {faults} faults, {} left over", file.display(), found.len() - faults);
            }
            return Ok(faults == 0);
        }
        StoreCommand::Forget { which, table, id } => {
            let (_, file) = which.find()?;
            let copy = store::forget(&file, &table, id)?;
            eprintln!("{table} {id} is forgotten; the store as it was is {}", copy.display());
        }
    }
    Ok(true)
}
