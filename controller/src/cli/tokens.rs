//! `tandem token`: who may use the API over TCP for more than reading.

use super::client::segment;
use super::table::table;
use super::verbs::{Common, print_json};
use crate::http::tokens::NewToken;
use crate::store::tokens::Token;
use clap::Subcommand;
use hyper::Method;

/// What can be done with tokens. All of it over the controller's Unix socket only.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
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
pub async fn token(common: &Common, verb: TokenVerb) -> anyhow::Result<()> {
    let client = common.client();
    match verb {
        TokenVerb::Create { name, read_only, expires } => {
            let body = serde_json::to_value(NewToken { name, read_only, minutes: expires })?;
            let reply = client.call(Method::POST, "/api/v1/tokens", Some(body)).await?;
            if common.json {
                return print_json(&reply.body);
            }
            println!("{}", reply.body["token"].as_str().unwrap_or_default());
            eprintln!(
                "it is shown this once; clients send it as `Authorization: Bearer TOKEN` (tandem: TANDEM_TOKEN)"
            );
        }
        TokenVerb::List => {
            let (tokens, _): (Vec<Token>, _) = client.get("/api/v1/tokens").await?;
            if common.json {
                return print_json(&tokens);
            }
            let row = |t: &Token| {
                let may = if t.read_only { "read" } else { "read and write" };
                vec![
                    t.name.clone(),
                    may.to_owned(),
                    date(t.made),
                    t.expires.map_or("revoked".to_owned(), date),
                ]
            };
            let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
            print!("{}", table(&["token", "may", "made", "good until"], &rows));
        }
        TokenVerb::Revoke { name } => {
            client.call(Method::DELETE, &format!("/api/v1/tokens/{}", segment(&name)), None).await?;
            eprintln!("the token is good no longer");
        }
    }
    Ok(())
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
