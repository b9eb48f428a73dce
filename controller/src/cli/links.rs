//! `tandem links`.

use super::args::{GlobalArgs, print_json};
use super::stats::or_dash;
use super::table::table;
use super::watch;
use tandem_api::endpoints::LINKS;
use tandem_api::views::LinkView;
use tandem_model::BitRate;

/// `tandem links`; with `watch`, again whenever something changed, until interrupted.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, watch: bool) -> anyhow::Result<()> {
    watch::again(&global.client(), &LINKS, watch, |links| {
        if global.json {
            return print_json(&links);
        }
        let header = ["link", "state", "capacity", "up", "down", "reserved up", "reserved down", "ratio"];
        print!("{}", table(&header, &links.iter().map(row).collect::<Vec<_>>()));
        Ok(())
    })
    .await
}

fn row(l: &LinkView) -> Vec<String> {
    // What the switches at its ends do not count is not zero.
    let measured = |rate: BitRate| or_dash((!l.uncounted).then_some(rate));
    vec![
        l.name.clone(),
        l.state.clone(),
        l.capacity.to_string(),
        measured(l.up),
        measured(l.down),
        l.reserved_up.to_string(),
        l.reserved_down.to_string(),
        or_dash((!l.uncounted).then(|| format!("{:.1}%", l.ratio * 100.0))),
    ]
}
