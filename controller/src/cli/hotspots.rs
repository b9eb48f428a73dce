//! `tandem hotspots`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use super::watch;
use tandem_api::endpoints::HOTSPOTS;
use tandem_api::views::HotspotView;
use tandem_model::Resource;

/// `tandem hotspots`; with `watch`, again whenever something changed, until interrupted.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, watch: bool) -> anyhow::Result<()> {
    watch::again(&global.client(), &HOTSPOTS, watch, |hotspots| {
        if global.json {
            return print_json(&hotspots);
        }
        let rows: Vec<Vec<String>> = hotspots.iter().map(row).collect();
        print!("{}", table(&["place", "kind", "resource", "in use", "state"], &rows));
        Ok(())
    })
    .await
}

fn row(h: &HotspotView) -> Vec<String> {
    vec![
        h.place.clone(),
        if h.resource == Resource::Link { "link" } else { "server" }.to_owned(),
        h.resource.to_string(),
        format!("{:.0}%", h.ratio * 100.0),
        if h.expected { "expected" } else { "hot" }.to_owned(),
    ]
}
