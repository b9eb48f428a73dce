//! `tandem notices`.

use super::args::{GlobalArgs, print_json};
use tandem_api::endpoints::NOTICES;
use tandem_model::Level;
use tandem_model::text::{escaped, escaped_to};

/// `tandem notices`.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs) -> anyhow::Result<()> {
    let notices = global.client().send(NOTICES.request()).await?.body;
    if global.json {
        return print_json(&notices);
    }
    for n in notices {
        let level = match n.level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        println!("{:.3} {level} {}: {}", n.at.as_secs_f64(), escaped(&n.kind), escaped_to(&n.text, 1000));
    }
    Ok(())
}
