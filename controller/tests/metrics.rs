//! `/metrics` through the real routes: its form is OpenMetrics, its values are those of the API,
//! the dashboard asks for nothing that is not there, and a scrape of a large data centre is cheap.

use arc_swap::ArcSwap;
use axum::Router;
use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tandem_controller::agents::{Agents, authority::Authority};
use tandem_controller::event_loop::Handle;
use tandem_controller::server::http;
use tandem_controller::site_events::EventLog;
use tandem_controller::store::tokens::Tokens;
use tandem_core::Core;
use tandem_model::{
    AgentSample, BitRate, ClassSample, Event, NodeId, PersistedState, PortCounters, PortInfo, PortNo,
    PortSample, QueueSelection, RequestId, Site, SwitchCaps, SwitchId, Time, site,
};
use tandem_tests::exposition::Exposition;
use tower::ServiceExt;

const SITE: &str = "name = \"metrics\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 2\nedge = 2\n\
                    aggregation_core_links = 1\n\
                    [[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                    [[class]]\nname = \"silver\"\nshare = 30\ndscp = 10\ndefault = true\n";

fn read(text: &str) -> Site {
    site::read(text, "site.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn counters(port: PortNo, n: u64) -> PortSample {
    PortSample {
        port,
        counters: PortCounters {
            rx_packets: Some(n + 1),
            tx_packets: Some(n + 2),
            rx_bytes: Some(1000 * n),
            tx_bytes: Some(2000 * n),
            // Not counted: left out, not 18 446 744 073 709 551 615.
            rx_dropped: None,
            tx_dropped: Some(4),
            rx_errors: Some(5),
            tx_errors: Some(6),
            rx_frame_errors: Some(7),
            rx_overrun_errors: Some(8),
            rx_crc_errors: Some(9),
            collisions: Some(10),
            duration_ns: None,
        },
    }
}

/// A data centre in which every switch, port, class and card has something to say, after two
/// readings a second apart.
fn core(site: Site) -> Core {
    let site = Arc::new(site);
    let start = Time::from_secs(1_700_000_000);
    let mut core = Core::new(site.clone(), PersistedState::default(), start).expect("known policies");
    let of = |n: u32| site.topology.ports(NodeId::Switch(SwitchId(n))).iter().map(|(p, _)| *p);
    for (n, switch) in (0u32..).zip(&site.topology.switches) {
        let info = |p: PortNo| PortInfo {
            port: p,
            name: format!("{}-{p}", switch.name),
            mac: tandem_model::Mac([2, 0, 0, 0, 0, 1]),
            up: true,
            speed: None,
        };
        let (version, peer) = ("1.3".to_owned(), "a test".to_owned());
        let caps = SwitchCaps { version, tables: 2, description: String::new(), peer };
        core.handle(Event::SwitchUp { switch: switch.dpid, ports: of(n).map(info).collect(), caps }, start);
        let ports = of(n).map(|p| (p, QueueSelection::Dscp)).collect();
        core.handle(Event::PortsManaged { agent: "host1".into(), switch: switch.dpid, ports }, start);
    }
    for second in 1..3u64 {
        let now = start + Duration::from_secs(second);
        for (n, switch) in (0u32..).zip(&site.topology.switches) {
            let count = |p: PortNo| u64::from(p.0) * second * 100 + u64::from(n);
            let ports = of(n).map(|p| counters(p, count(p))).collect();
            core.handle(
                Event::Samples { switch: switch.dpid, ports, flows: Vec::new(), rules: Vec::new() },
                now,
            );
            let class = |p: PortNo, c: u64| ClassSample {
                bytes: count(p) * 100 * (c + 1),
                packets: count(p),
                drops: c,
                queued: 3,
            };
            let agent = |p: PortNo| AgentSample {
                interface: counters(p, count(p) + 7),
                speed: Some(BitRate::mbit(1000)),
                half_duplex: p.0 == 2,
                classes: (0..site.classes.len() as u64).map(|c| class(p, c)).collect(),
                hardware: BTreeMap::from([
                    ("rx crc \"errors\"\\".to_owned(), count(p)),
                    ("tx_pause".to_owned(), 1),
                ]),
            };
            core.handle(
                Event::AgentSamples { agent: None, switch: switch.dpid, ports: of(n).map(agent).collect() },
                now,
            );
        }
    }
    core
}

/// The API of a controller that shows this core as it is now; the folder holds its agents'
/// authority.
fn routes(core: &mut Core) -> (Router, tempfile::TempDir) {
    let snapshot = core.snapshot();
    let (inputs, _) = tokio::sync::mpsc::channel(1);
    let (_, version) = tokio::sync::watch::channel(snapshot.version);
    let site = snapshot.site.clone();
    let event_loop = Handle {
        inputs,
        snapshot: Arc::new(ArcSwap::new(snapshot)),
        version,
        events: EventLog::new(Time::ZERO),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::open(folder.path()).expect("an authority");
    let agents = Agents::new(authority, Vec::new(), event_loop.clone(), site);
    let tokens = Tokens::open(&folder.path().join("store.sqlite")).expect("none yet");
    (http::routes(http::Api::new(event_loop, agents, tokens)), folder)
}

async fn get(routes: &Router, path: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).body(axum::body::Body::empty()).expect("a request");
    let answer = routes.clone().oneshot(request).await.expect("infallible");
    let status = answer.status();
    let kind =
        answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

async fn scrape(routes: &Router) -> Exposition {
    let (status, kind, text) = get(routes, "/metrics").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    Exposition::read(&text).unwrap_or_else(|e| panic!("{e:#}"))
}

async fn json(routes: &Router, path: &str) -> Vec<Value> {
    let (status, _, text) = get(routes, path).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str::<Value>(&text).expect("JSON").as_array().cloned().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[tokio::test]
async fn every_figure_of_the_api_is_there_with_the_same_value() {
    let mut core = core(read(SITE));
    let now = Time::from_secs(1_700_000_010);
    let port = tandem_model::PortNo(1);
    core.handle(
        Event::Request {
            id: RequestId(1),
            request: tandem_model::Request::SetPort { switch: SwitchId(0), port, up: false },
        },
        now,
    );
    core.handle(Event::Stored { id: tandem_model::StoreId(1) }, now);
    let request = tandem_model::VmRequest::default();
    core.handle(
        Event::Request { id: RequestId(2), request: tandem_model::Request::RequestVm { request } },
        now,
    );
    let (routes, _folder) = routes(&mut core);
    let seen = scrape(&routes).await;
    let is = |name: &str, labels: &[(&str, &str)], wanted: f64| {
        let value = seen.value(name, labels).unwrap_or_else(|e| panic!("{e:#}"));
        assert!((value - wanted).abs() <= 1e-9 * wanted.abs(), "{name}{labels:?}: {value}, not {wanted}");
    };
    let classes = json(&routes, "/api/v1/classes").await;
    let (mut ports, mut samples) = (0, 0);
    for switch in json(&routes, "/api/v1/switches").await {
        let name = text(&switch["name"]);
        is("tandem_switch_up", &[("switch", name)], 1.0);
        is("tandem_switch_rules", &[("switch", name)], number(&switch["rules"]));
        is("tandem_switch_utilization_ratio", &[("switch", name)], number(&switch["ratio"]));
        for port in switch["ports"].as_array().expect("ports") {
            let at = port["port"].to_string();
            let labels = [("switch", name), ("port", at.as_str())];
            let off = f64::from(u8::from(port["switched_off"] == true));
            is("tandem_port_switched_off", &labels, off);
            is("tandem_port_up", &labels, f64::from(u8::from(port["up"] == true)));
            for (metric, key) in [
                ("tandem_port_receive_bytes_total", "rx_bytes"),
                ("tandem_port_transmit_bytes_total", "tx_bytes"),
                ("tandem_port_receive_packets_total", "rx_packets"),
                ("tandem_port_transmit_packets_total", "tx_packets"),
                ("tandem_port_errors_total", "errors"),
                ("tandem_port_receive_frame_errors_total", "rx_frame_errors"),
                ("tandem_port_receive_overrun_errors_total", "rx_overrun_errors"),
                ("tandem_port_receive_crc_errors_total", "rx_crc_errors"),
                ("tandem_port_collisions_total", "collisions"),
            ] {
                is(metric, &labels, number(&port[key]));
            }
            assert!(seen.value("tandem_port_dropped_packets_total", &labels).is_err(), "it is not counted");
            is("tandem_port_receive_bytes_per_second", &labels, number(&port["rx"]) / 8.0);
            is("tandem_port_transmit_bytes_per_second", &labels, number(&port["tx"]) / 8.0);
            let agent = &port["agent"];
            is("tandem_interface_speed_bytes_per_second", &labels, number(&agent["speed"]) / 8.0);
            is("tandem_interface_half_duplex", &labels, f64::from(u8::from(agent["half_duplex"] == true)));
            is("tandem_interface_transmit_bytes_total", &labels, number(&agent["interface"]["tx_bytes"]));
            let dropped = seen.value("tandem_interface_receive_dropped_packets_total", &labels);
            assert!(dropped.is_err(), "nor by the agent: {dropped:?}");
            is("tandem_interface_receive_errors_total", &labels, number(&agent["interface"]["rx_errors"]));
            for (counter, value) in agent["hardware"].as_object().expect("counters") {
                let labels = [labels[0], labels[1], ("counter", counter.as_str())];
                is("tandem_hardware_counter_total", &labels, number(value));
            }
            for (class, counters) in classes.iter().zip(port["classes"].as_array().expect("classes")) {
                let labels = [labels[0], labels[1], ("class", text(&class["name"]))];
                is("tandem_class_transmit_bytes_total", &labels, number(&counters["bytes"]));
                is("tandem_class_transmit_packets_total", &labels, number(&counters["packets"]));
                is("tandem_class_dropped_packets_total", &labels, number(&counters["drops"]));
                is("tandem_class_queued_packets", &labels, number(&counters["queued"]));
                is("tandem_class_transmit_bytes_per_second", &labels, number(&counters["rate"]) / 8.0);
                is(
                    "tandem_class_guaranteed_bytes_per_second",
                    &labels,
                    number(&counters["guaranteed"]) / 8.0,
                );
                is("tandem_class_port_share_ratio", &labels, number(&counters["share"]) / 100.0);
                samples += usize::from(number(&counters["rate"]) > 0.0);
            }
            ports += 1;
        }
    }
    assert!(ports > 10 && samples > 10, "{ports} ports, {samples} classes with a rate");
    for class in &classes {
        is("tandem_class_share_ratio", &[("class", text(&class["name"]))], number(&class["share"]) / 100.0);
    }
    let mut down = 0;
    for link in json(&routes, "/api/v1/links").await {
        let name = text(&link["name"]);
        is("tandem_link_state", &[("link", name), ("state", text(&link["state"]))], 1.0);
        is("tandem_link_utilization_ratio", &[("link", name)], number(&link["ratio"]));
        is("tandem_link_capacity_bytes_per_second", &[("link", name)], number(&link["capacity"]) / 8.0);
        let up = [("link", name), ("direction", "up")];
        is("tandem_link_measured_bytes_per_second", &up, number(&link["up"]) / 8.0);
        is("tandem_link_reserved_bytes_per_second", &up, number(&link["reserved_up"]) / 8.0);
        down += usize::from(link["state"] == "down");
    }
    assert_eq!(down, 1, "the link of the port that is off");
    for server in json(&routes, "/api/v1/servers").await {
        let labels = [("server", text(&server["name"]))];
        is("tandem_server_cpu_cores", &labels, number(&server["capacity"]["cpu"]));
        is("tandem_server_memory_bytes", &labels, number(&server["capacity"]["ram"]));
        is("tandem_server_memory_reserved_bytes", &labels, number(&server["used"]["ram"]));
        is("tandem_server_network_reserved_bytes_per_second", &labels, number(&server["used"]["net"]) / 8.0);
    }
    is("tandem_overrides", &[("kind", "port-off")], 1.0);
    is("tandem_overrides", &[("kind", "path-pinned")], 0.0);
    is("tandem_vm_requests_total", &[], 1.0);
    is("tandem_vm_requests_failed_total", &[], 1.0);
    is("tandem_world_up", &[], 0.0);
    is("tandem_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

#[tokio::test]
async fn metrics_that_are_switched_off_are_not_there_and_say_why() {
    let (routes, _folder) = routes(&mut core(read(&format!("{SITE}[modules]\nmetrics = false\n"))));
    let (status, _, text) = get(&routes, "/metrics").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("[modules] metrics = false"), "{text}");
}

/// The metrics in an expression, and the labels by which they are chosen or summed.
fn queried(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|w| w.starts_with("tandem_")).map(str::to_owned).collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("expr" | "definition", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|v| expressions(v, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_nothing_that_is_not_there_and_every_metric_is_described() {
    let (routes, _folder) = routes(&mut core(read(SITE)));
    let seen = scrape(&routes).await;
    // A family without samples is there too, under the name that its samples would have.
    let there: BTreeSet<String> = seen
        .families
        .iter()
        .map(|(name, kind)| match kind.as_str() {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.clone(),
        })
        .collect();
    let dashboard: Value = serde_json::from_str(include_str!("../../docs/grafana-dashboard.json"))
        .expect("the dashboard is JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let asked: BTreeSet<String> = found.iter().flat_map(|e| queried(e)).collect();
    assert!(asked.len() > 15, "{asked:?}");
    let missing: Vec<_> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "the dashboard asks for {missing:?}");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels with one id");
        assert!(panel["gridPos"]["w"].as_u64().is_some_and(|w| w <= 24), "{}", panel["title"]);
        let row = panel["type"] == "row";
        assert!(row || panel["datasource"]["uid"] == "${datasource}", "{}", panel["title"]);
        assert!(row || panel["targets"].as_array().is_some_and(|t| !t.is_empty()), "{}", panel["title"]);
    }
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");

    let described = queried(include_str!("../../docs/monitoring.md"));
    let undescribed: Vec<_> = there.difference(&described).collect();
    assert!(undescribed.is_empty(), "docs/monitoring.md says nothing of {undescribed:?}");
    let invented: Vec<_> = described.difference(&there).collect();
    assert!(invented.is_empty(), "docs/monitoring.md describes {invented:?}, which is not there");
}

/// 80 switches of 8 ports with 4 classes: all is there; how long a scrape and a snapshot take is
/// printed, not judged.
#[tokio::test]
async fn a_large_data_centre_is_scraped_whole() {
    let mut text = "[topology]\nshape = \"fat-tree\"\nk = 8\n".to_owned();
    for (name, share) in [("gold", 40), ("silver", 30), ("bronze", 20), ("rest", 10)] {
        text.push_str(&format!("[[class]]\nname = \"{name}\"\nshare = {share}\n"));
    }
    let mut core = core(read(&text));
    let (routes, _folder) = routes(&mut core);
    let seen = scrape(&routes).await;
    let start = Instant::now();
    let switch = core.site().topology.switches[0].dpid;
    core.handle(
        Event::AgentSamples { agent: None, switch, ports: Vec::new() },
        Time::from_secs(1_700_000_003),
    );
    core.snapshot();
    println!("a snapshot after an agent's report takes {:?}", start.elapsed());
    let switches = seen.samples["tandem_switch_up"].len();
    let classes = seen.samples["tandem_class_queued_packets"].len();
    assert!(switches == 80 && classes >= 80 * 8 * 4, "{switches} switches, {classes} classes at ports");
    let start = Instant::now();
    let (_, _, body) = get(&routes, "/metrics").await;
    println!("{} samples, {} bytes in {:?}", seen.len(), body.len(), start.elapsed());
}
