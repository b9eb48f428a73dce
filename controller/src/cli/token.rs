//! `tandem token`: who may use the API over TCP for more than reading.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use clap::Subcommand;
use tandem_api::endpoints::{CREATE_TOKEN, REVOKE_TOKEN, TOKENS};
use tandem_api::tokens::{NewToken, Token};

/// What can be done with tokens. All of it over the controller's Unix socket only.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token. It is shown once: treat it as a password.
    Create {
        /// What it is for.
        name: String,
        /// It may only read.
        #[arg(long)]
        read_only: bool,
        /// How long it is good, such as 30m, 12h or 90d; until it is revoked if left out.
        #[arg(long, value_parser = minutes, value_name = "TIME")]
        expires: Option<u64>,
    },
    /// List all tokens, without their secrets.
    List,
    /// Let a token in no longer, from the next request on.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Minutes.
fn minutes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time; write such as 30m, 12h or 90d, at least a minute");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default().trim() {
        "m" | "min" => 1,
        "h" => 60,
        "d" | "days" => 24 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|m| *m > 0).ok_or_else(wrong)
}

fn date(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| "?".to_owned(), |t| t.date().to_string())
}

/// `tandem token`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, command: TokenCommand) -> anyhow::Result<()> {
    let client = global.client();
    match command {
        TokenCommand::Create { name, read_only, expires } => {
            let new = NewToken { name, read_only, minutes: expires };
            let made = client.send(CREATE_TOKEN.with(&new)).await?.body;
            if global.json {
                return print_json(&made);
            }
            println!("{}", made.token);
            eprintln!(
                "it is shown this once; clients send it as `Authorization: Bearer TOKEN` (tandem: TANDEM_TOKEN)"
            );
        }
        TokenCommand::List => {
            let tokens = client.send(TOKENS.request()).await?.body;
            if global.json {
                return print_json(&tokens);
            }
            let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
            print!("{}", table(&["token", "may", "made", "good until"], &rows));
        }
        TokenCommand::Revoke { name } => {
            client.send(REVOKE_TOKEN.at(&[&name])).await?;
            eprintln!("the token is good no longer");
        }
    }
    Ok(())
}

fn row(token: &Token) -> Vec<String> {
    vec![
        token.name.clone(),
        if token.read_only { "read" } else { "read and write" }.to_owned(),
        date(token.made),
        token.expires.map_or("revoked".to_owned(), date),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_nonsense_is_not() {
        assert_eq!(minutes("30m"), Ok(30));
        assert_eq!(minutes("12 h"), Ok(720));
        assert_eq!(minutes("90d"), Ok(129_600));
        for bad in [
            "",
            "0m",
            "-1d",
            "1e18d",
            "99999999999999999999d",
            "18446744073709551615d",
            "d",
            "5",
            "5 years",
            "NaNd",
        ] {
            assert!(minutes(bad).is_err(), "{bad}");
        }
    }
}
