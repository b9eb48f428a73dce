//! `tandem rules`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use std::cmp::Reverse;
use tandem_api::Client;
use tandem_api::endpoints::{RULE_COUNTERS, RULES, SWITCHES};
use tandem_api::rules::CountedRule;
use tandem_model::Rule;

/// `tandem rules`: those of one switch, or of all; with what was counted of each, if that is
/// wanted.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, switch: Option<String>, counters: bool) -> anyhow::Result<()> {
    let client = global.client();
    let names = match switch {
        Some(name) => vec![name],
        None => {
            let switches = client.send(SWITCHES.request()).await?.body;
            switches.into_iter().filter(|s| s.role.is_some() && !s.legacy).map(|s| s.name).collect()
        }
    };
    if counters { counted(global, &client, names).await } else { plain(global, &client, names).await }
}

async fn plain(global: &GlobalArgs, client: &Client, names: Vec<String>) -> anyhow::Result<()> {
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for name in names {
        let mut rules = client.send(RULES.at(&[&name])).await?.body;
        rules.sort_by_key(order);
        rows.extend(rules.iter().map(|rule| row(&name, rule).to_vec()));
        all.insert(name, serde_json::to_value(rules)?);
    }
    if global.json {
        return print_json(&all);
    }
    print!("{}", table(&["switch", "table", "priority", "owner", "match", "actions"], &rows));
    Ok(())
}

async fn counted(global: &GlobalArgs, client: &Client, names: Vec<String>) -> anyhow::Result<()> {
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for name in names {
        let mut counted = client.send(RULE_COUNTERS.at(&[&name])).await?.body;
        counted.rules.sort_by_key(|r| order(&r.rule));
        rows.extend(counted.rules.iter().map(|rule| counted_row(&name, rule)));
        all.insert(name, serde_json::to_value(counted)?);
    }
    if global.json {
        return print_json(&all);
    }
    let head = ["switch", "table", "priority", "owner", "match", "packets", "bytes", "age", "idle"];
    print!("{}", table(&head, &rows));
    Ok(())
}

/// In the order in which a switch looks at them.
fn order(rule: &Rule) -> (u8, Reverse<u16>) {
    (rule.key.table, Reverse(rule.key.priority))
}

fn row(switch: &str, rule: &Rule) -> [String; 6] {
    let owner = rule.cookie.owner().map_or_else(|| "?".to_owned(), |owner| owner.to_string());
    let actions: Vec<String> = rule.actions.iter().map(ToString::to_string).collect();
    [
        switch.to_owned(),
        rule.key.table.to_string(),
        rule.key.priority.to_string(),
        owner,
        rule.key.matching.to_string(),
        if actions.is_empty() { "drop".to_owned() } else { actions.join(",") },
    ]
}

/// The same without actions, with counters; `-` is what is not known.
fn counted_row(switch: &str, counted: &CountedRule) -> Vec<String> {
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let seconds = |s: Option<f64>| s.map_or_else(|| "-".to_owned(), |s| format!("{s:.0}s"));
    let mut cells = row(switch, &counted.rule)[..5].to_vec();
    cells.extend([number(counted.packets), number(counted.bytes)]);
    cells.extend([seconds(counted.age), seconds(counted.idle)]);
    cells
}
