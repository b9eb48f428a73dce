//! An enrolment token: all that an agent needs to reach a controller and to be enrolled, in one
//! line of text.
//!
//! It has the address of the controller, a secret that is valid once, and the certificate of the
//! controller's authority, by which the agent verifies the controller before it sends anything.
//! Anybody with an unused token can enrol: it has to be protected like a password.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// What every token starts with.
const PREFIX: &str = "tandem1.";
/// The longest text that is parsed.
const LONGEST: usize = 16 << 10;

/// A token for one enrolment of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Where the controller listens for agents: host and port.
    #[serde(rename = "a")]
    pub address: String,
    /// Valid once.
    #[serde(rename = "s")]
    pub secret: String,
    /// The authority's certificate, PEM.
    #[serde(rename = "c")]
    pub authority: String,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| std::fmt::Error)?;
        write!(f, "{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(json))
    }
}

impl std::str::FromStr for Token {
    type Err = String;
    fn from_str(text: &str) -> Result<Token, String> {
        let broken = || "this is no token; copy all of the line that `tandem agent token` prints".to_owned();
        let body = text.trim().strip_prefix(PREFIX).filter(|b| b.len() <= LONGEST).ok_or_else(broken)?;
        let json = BASE64_URL_SAFE_NO_PAD.decode(body).map_err(|_| broken())?;
        serde_json::from_slice(&json).map_err(|_| broken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_half_of_one_is_refused() {
        let token = Token { address: "10.0.0.1:6655".into(), secret: "s".into(), authority: "PEM".into() };
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
        for wrong in [&text[..text.len() / 2], "tandem1.", "tandem1.!!", ""] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_token_is_read_as_it_was_written(address in ".{0,60}", secret in ".{0,60}", authority in ".{0,400}") {
            let token = Token { address, secret, authority };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn any_text_is_a_token_or_is_refused(text in ".{0,200}", cut in 0usize..300) {
            let _ = text.parse::<Token>();
            let _ = format!("{PREFIX}{text}").parse::<Token>();
            let token = Token { address: text.clone(), secret: "s".into(), authority: "c".into() }.to_string();
            let part: String = token.chars().take(cut).collect();
            // A truncated token is invalid, whatever part was copied.
            prop_assert!(part.len() == token.len() || part.parse::<Token>().is_err());
        }
    }

    #[test]
    fn more_than_a_token_can_be_is_not_looked_at() {
        let long = format!("{PREFIX}{}", "A".repeat(LONGEST + 1));
        assert!(long.parse::<Token>().is_err());
    }
}
