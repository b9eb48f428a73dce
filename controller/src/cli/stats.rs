//! `tandem stats`.

use super::table::table;
use super::verbs::{Common, print_json};
use hyper::Method;
use tandem_core::rules::qos::ClassView;
use tandem_core::snapshot::{PortView, SwitchView};

/// Every port, then the classes at each port; after a fresh reading with `now`. With `hardware`, the cards' own counters instead.
///
/// # Errors
/// With what the controller says.
pub async fn stats(common: &Common, now: bool, hardware: bool) -> anyhow::Result<()> {
    let client = common.client();
    if now {
        client.call(Method::POST, "/api/v1/poll", None).await?;
    }
    let (switches, _): (Vec<SwitchView>, _) = client.get("/api/v1/switches").await?;
    if common.json {
        return print_json(&switches);
    }
    if hardware {
        print!("{}", table(&["port", "interface", "speed", "counter", "value"], &hardware_rows(&switches)));
        return Ok(());
    }
    let header = ["port", "peer", "state", "in", "out", "bytes in", "bytes out", "dropped", "errors"];
    println!("{}", table(&header, &ports(&switches).map(|(name, p)| port_row(name, p)).collect::<Vec<_>>()));
    let (classes, _): (Vec<ClassView>, _) = client.get("/api/v1/classes").await?;
    let rows = class_rows(&switches, &classes);
    if !rows.is_empty() {
        let header =
            ["port", "class", "out", "of the port", "guaranteed", "bytes", "packets", "dropped", "waiting"];
        println!("{}", table(&header, &rows));
    }
    let rows: Vec<Vec<String>> = switches
        .iter()
        .filter(|s| !s.legacy)
        .map(|s| vec![s.name.clone(), format!("{:.1}%", s.ratio * 100.0)])
        .collect();
    print!("{}", table(&["switch", "ratio"], &rows));
    Ok(())
}

fn ports(switches: &[SwitchView]) -> impl Iterator<Item = (String, &PortView)> {
    switches.iter().flat_map(|s| s.ports.iter().map(move |p| (format!("{}.{}", s.name, p.port), p)))
}

fn port_row(name: String, p: &PortView) -> Vec<String> {
    let state = match (p.switched_off, p.up) {
        (true, _) => "off",
        (false, true) => "up",
        (false, false) => "down",
    };
    vec![
        name,
        p.peer.clone(),
        state.into(),
        or_dash(p.rx),
        or_dash(p.tx),
        or_dash(p.rx_bytes),
        or_dash(p.tx_bytes),
        or_dash(p.dropped),
        or_dash(p.errors),
    ]
}

/// A value, or `-` where nobody counts it.
pub(super) fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn class_rows(switches: &[SwitchView], classes: &[ClassView]) -> Vec<Vec<String>> {
    let rows = ports(switches).flat_map(|(name, p)| {
        classes.iter().zip(&p.classes).map(move |(class, c)| {
            vec![
                name.clone(),
                class.name.clone(),
                c.rate.to_string(),
                format!("{:.1}%", c.share),
                c.guaranteed.to_string(),
                c.sample.bytes.to_string(),
                c.sample.packets.to_string(),
                c.sample.drops.to_string(),
                c.sample.queued.to_string(),
            ]
        })
    });
    rows.collect()
}

fn hardware_rows(switches: &[SwitchView]) -> Vec<Vec<String>> {
    let seen = ports(switches).filter_map(|(name, p)| Some((name, p, p.agent.as_ref()?)));
    let rows = seen.flat_map(|(name, p, agent)| {
        let duplex = if agent.half_duplex { ", half duplex" } else { "" };
        let speed = agent.speed.map_or_else(|| "?".to_owned(), |s| s.to_string()) + duplex;
        agent.hardware.iter().map(move |(counter, value)| {
            vec![name.clone(), p.name.clone(), speed.clone(), counter.clone(), value.to_string()]
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_switch_does_not_count_is_a_dash() {
        assert_eq!([or_dash(None::<u64>), or_dash(Some(7u64))], ["-", "7"]);
    }
}
