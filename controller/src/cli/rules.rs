//! `tandem rules`.

use super::args::{GlobalArgs, print_json};
use super::table::table;
use std::cmp::Reverse;
use tandem_api::endpoints::{RULES, SWITCHES};
use tandem_model::{Owner, Rule};

/// `tandem rules`: those of one switch, or of all.
///
/// # Errors
/// With what the controller says.
pub async fn run(global: &GlobalArgs, switch: Option<String>) -> anyhow::Result<()> {
    let client = global.client();
    let names = match switch {
        Some(name) => vec![name],
        None => {
            let switches = client.send(SWITCHES.request()).await?.body;
            switches.into_iter().filter(|s| s.role.is_some() && !s.legacy).map(|s| s.name).collect()
        }
    };
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for name in names {
        let mut rules = client.send(RULES.at(&[&name])).await?.body;
        rules.sort_by_key(|r| (r.key.table, Reverse(r.key.priority)));
        rows.extend(rules.iter().map(|rule| row(&name, rule)));
        all.insert(name, serde_json::to_value(rules)?);
    }
    if global.json {
        return print_json(&all);
    }
    print!("{}", table(&["switch", "table", "priority", "owner", "match", "actions"], &rows));
    Ok(())
}

fn row(switch: &str, rule: &Rule) -> Vec<String> {
    let owner = match rule.cookie.owner() {
        Some(Owner::Base) => "base".to_owned(),
        Some(Owner::Fabric) => "plan".to_owned(),
        Some(Owner::Vm(n)) => format!("vm{n}"),
        Some(Owner::Group(n)) => format!("grp{n}"),
        Some(Owner::Admin(n)) => format!("admin{n}"),
        Some(Owner::Migration(n)) => format!("mig{n}"),
        None => "?".to_owned(),
    };
    let actions: Vec<String> = rule.actions.iter().map(ToString::to_string).collect();
    vec![
        switch.to_owned(),
        rule.key.table.to_string(),
        rule.key.priority.to_string(),
        owner,
        rule.key.matching.to_string(),
        if actions.is_empty() { "drop".to_owned() } else { actions.join(",") },
    ]
}
