//! What every command may be given, and how its values are read and printed.

use clap::Args;
use tandem_api::{Address, Client, limits};
use tandem_model::spellings;

/// Where the API is, and how to print.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// The controller's API: unix:PATH or tcp:ADDRESS:PORT.
    #[arg(long, global = true, env = "TANDEM_API", default_value = tandem_api::DEFAULT_ADDRESS)]
    pub api: Address,
    /// A token (`tandem token create`), for an API over TCP. Better given by TANDEM_TOKEN: other
    /// users can read command lines.
    #[arg(long, global = true, env = "TANDEM_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

impl GlobalArgs {
    /// A client of that API.
    pub fn client(&self) -> Client {
        Client::new(self.api.clone()).with_token(self.token.clone().filter(|t| !t.is_empty()))
    }
}

/// Seconds to live, as a plain number or as a time with its unit. JSON has no NaN: it would arrive
/// as nothing at all, and the VM would live for ever.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = match text.trim().parse() {
        Ok(seconds) => seconds,
        Err(_) => {
            spellings::time(text).map_err(|why| format!("{why}, or a number of seconds"))?.as_secs_f64()
        }
    };
    limits::lifetime(seconds)?;
    Ok(seconds)
}

pub(super) fn vm_number(text: &str) -> Result<u64, String> {
    text.strip_prefix("vm")
        .unwrap_or(text)
        .parse()
        .map_err(|_| "write a VM's number, such as 7 or vm7".to_owned())
}

pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
