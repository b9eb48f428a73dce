//! The agents' server over real TLS, with peers that are not what they say: old certificates,
//! switches of others, floods, silence.

use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tandem_agent_protocol::agent::agents_client::AgentsClient;
use tandem_agent_protocol::agent::enrolment_client::EnrolmentClient;
use tandem_agent_protocol::{CONTROLLER_NAME, agent as wire};
use tandem_controller::agents::{Agents, authority::Authority};
use tandem_controller::event_loop::{Handle, Input};
use tandem_controller::openflow_server::Listener;
use tandem_controller::server::metrics;
use tandem_controller::site_events::EventLog;
use tandem_core::Core;
use tandem_core::snapshot::Snapshot;
use tandem_model::{Event, PersistedState, Time, site};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};

const SITE: &str = "name = \"one\"\n[topology]\nshape = \"three-tier\"\ncore = 1\naggregation = 0\nedge = 2\n\
                    edge_aggregation_links = 1\n\
                    [[class]]\nname = \"gold\"\nshare = 70\ndscp = 46\n\
                    [[class]]\nname = \"silver\"\nshare = 30\ndscp = 10\ndefault = true\n";
/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(60);

struct Server {
    agents: Agents,
    address: SocketAddr,
    events: mpsc::Receiver<Input>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    version: watch::Sender<u64>,
    _folder: tempfile::TempDir,
}

struct Enrolled {
    certificate: String,
    key: String,
}

impl Server {
    async fn start() -> Server {
        let site = Arc::new(site::read(SITE, "site.toml").unwrap_or_else(|faults| panic!("{faults}")));
        let mut core = Core::new(site.clone(), PersistedState::default(), Time::from_secs(1_700_000_000));
        let first = core.snapshot();
        let (inputs, events) = mpsc::channel(4096);
        let (version, versions) = watch::channel(first.version);
        let snapshot = Arc::new(ArcSwap::new(first));
        let handle = Handle {
            inputs,
            snapshot: snapshot.clone(),
            version: versions,
            events: EventLog::new(Time::ZERO),
        };
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(&folder.path().join("agents")).expect("an authority");
        let agents = Agents::new(authority, Vec::new(), handle, site);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = agents.clone().serve(vec![Listener::Tcp(listener)]).expect("a server");
        tokio::spawn(serving);
        Server { agents, address, events, snapshot, version, _folder: folder }
    }

    fn token(&self, name: &str, switches: &[&str]) -> String {
        let list: Vec<String> = switches.iter().map(|s| (*s).to_owned()).collect();
        let list = (!list.is_empty()).then_some(&list[..]);
        self.agents.authority.token(name, time::Duration::hours(1), list).expect("a token")
    }

    async fn channel(&self, identity: Option<&Enrolled>) -> Channel {
        let authority = Certificate::from_pem(self.agents.authority.certificate());
        let mut tls = ClientTlsConfig::new().ca_certificate(authority).domain_name(CONTROLLER_NAME);
        if let Some(own) = identity {
            tls = tls.identity(Identity::from_pem(&own.certificate, &own.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).expect("an address");
        // A peer that takes hardly anything at once: what is not read waits at the server.
        let endpoint = endpoint.initial_stream_window_size(1).tls_config(tls).expect("certificates");
        endpoint.connect().await.expect("connected")
    }

    async fn ask_for(&self, name: &str, secret: &str) -> Result<Enrolled, Status> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        let request = params.serialize_request(&key).expect("a request").der().to_vec();
        let ask = wire::EnrolRequest { name: name.into(), secret: secret.into(), request };
        let reply = EnrolmentClient::new(self.channel(None).await).enrol(ask).await?;
        Ok(Enrolled { certificate: reply.into_inner().certificate, key: key.serialize_pem() })
    }

    async fn enrol(&self, name: &str, switches: &[&str]) -> Enrolled {
        self.ask_for(name, &self.token(name, switches)).await.expect("enrolled")
    }

    async fn attach(&self, channel: Channel, name: &str, switches: &[&str]) -> Result<Attached, Status> {
        let (sender, queue) = mpsc::channel(64);
        let port =
            |number| wire::PresentedPort { number, interface: format!("p{number}"), ..Default::default() };
        let presented = |name: &&str| wire::Presented {
            name: (*name).to_owned(),
            datapath: "soft".into(),
            ports: (1..=3).map(port).collect(),
        };
        let hello = wire::Hello {
            name: name.into(),
            switches: switches.iter().map(presented).collect(),
            ..Default::default()
        };
        let hello = wire::FromAgent { message: Some(wire::from_agent::Message::Hello(hello)) };
        sender.send(hello).await.expect("room");
        let orders = AgentsClient::new(channel).attach(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Attached { sender, orders })
    }

    async fn event(&mut self) -> Event {
        loop {
            let input =
                tokio::time::timeout(LIMIT, self.events.recv()).await.expect("in time").expect("an event");
            if let Input::Event(event) = input {
                return event;
            }
        }
    }

    async fn until(&mut self, what: &str, mut is_it: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let event = self.event().await;
            let found = is_it(&event);
            seen.push(event);
            assert!(seen.len() < 4000, "{what} did not come: {seen:?}");
            if found {
                return seen;
            }
        }
    }
}

struct Attached {
    sender: mpsc::Sender<wire::FromAgent>,
    orders: Streaming<wire::ToAgent>,
}

impl Attached {
    async fn desired(&mut self) -> Vec<String> {
        let next = tokio::time::timeout(LIMIT, self.orders.message()).await.expect("in time");
        match next.expect("no error").expect("a message").message {
            Some(wire::to_agent::Message::Desired(d)) => d.switches.into_iter().map(|s| s.name).collect(),
            None => Vec::new(),
        }
    }

    /// Waits until the controller ends the stream, whatever is still in it.
    async fn ended(&mut self) {
        let end = async { while let Ok(Some(_)) = self.orders.message().await {} };
        tokio::time::timeout(LIMIT, end).await.expect("it is ended");
    }

    async fn report(&self, switches: &[&str]) {
        let ports = vec![wire::PortReport { number: 1, up: true, ..Default::default() }];
        let report =
            |s: &&str| wire::SwitchReport { name: (*s).to_owned(), ports: ports.clone(), card: None };
        let report = wire::Report { switches: switches.iter().map(report).collect(), faults: Vec::new() };
        let message = wire::FromAgent { message: Some(wire::from_agent::Message::Report(report)) };
        self.sender.send(message).await.expect("room");
    }
}

#[tokio::test]
async fn a_revoked_name_that_is_enrolled_again_leaves_the_old_certificate_void() {
    let mut server = Server::start().await;
    let old = server.enrol("mini1", &["edge1"]).await;
    let connection = server.channel(Some(&old)).await;
    let mut attached = server.attach(connection.clone(), "mini1", &["edge1"]).await.expect("let in");
    assert_eq!(attached.desired().await, ["edge1"]);
    // Revoked: the stream ends at once, and the connection that is still there is of no more use.
    assert!(server.agents.authority.revoke("mini1").expect("room"));
    server.agents.disconnect("mini1");
    attached.ended().await;
    server.until("the agent is down", |e| matches!(e, Event::AgentDown { .. })).await;
    let refused = server.attach(connection.clone(), "mini1", &["edge1"]).await.err().expect("revoked");
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Enrolled again: only the new one is good, on old connections and on new ones, for renewals
    // too.
    let new = server.enrol("mini1", &[]).await;
    for channel in [connection.clone(), server.channel(Some(&old)).await] {
        let refused = server.attach(channel.clone(), "mini1", &["edge1"]).await.err().expect("void");
        assert!(refused.message().contains("not the current one"), "{refused}");
        let renewed = AgentsClient::new(channel).renew(wire::RenewRequest { request: vec![1] }).await;
        assert_eq!(renewed.expect_err("void").code(), Code::PermissionDenied);
    }
    let channel = server.channel(Some(&new)).await;
    let mut again = server.attach(channel, "mini1", &["edge1"]).await.expect("let in");
    assert_eq!(again.desired().await, ["edge1"], "it has the switches that it had");
    // Enrolled a third time, without a revocation: whoever is connected by the second one is out.
    let _third = server.enrol("mini1", &[]).await;
    again.ended().await;
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_when_it_is_shown() {
    let server = Server::start().await;
    let first = server.enrol("mini1", &["edge1"]).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    let request = params.serialize_request(&key).expect("a request").der().to_vec();
    let channel = server.channel(Some(&first)).await;
    let renewed = AgentsClient::new(channel).renew(wire::RenewRequest { request }).await.expect("renewed");
    let second = Enrolled { certificate: renewed.into_inner().certificate, key: key.serialize_pem() };
    server
        .attach(server.channel(Some(&first)).await, "mini1", &[])
        .await
        .expect("until the new one is shown");
    server.attach(server.channel(Some(&second)).await, "mini1", &[]).await.expect("the new one");
    let refused = server.attach(server.channel(Some(&first)).await, "mini1", &[]).await.err().expect("void");
    assert!(refused.message().contains("not the current one"), "{refused}");
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_switches_only() {
    let mut server = Server::start().await;
    let dpid = |server: &Server, name: &str| {
        let snapshot = server.snapshot.load();
        let switch = snapshot.site.topology.switches.iter().find(|s| s.name == name).expect("a switch");
        switch.dpid
    };
    let (edge1, edge2, core1) = (dpid(&server, "edge1"), dpid(&server, "edge2"), dpid(&server, "core1"));
    let one = server.enrol("mini1", &["edge1"]).await;
    let mut attached = server
        .attach(server.channel(Some(&one)).await, "mini1", &["edge1", "edge2", "core1"])
        .await
        .expect("let in");
    assert_eq!(attached.desired().await, ["edge1"], "it is told of no other");
    for _ in 0..20 {
        attached.report(&["edge1", "edge2", "core1"]).await;
    }
    let mut samples = 0;
    let seen = server
        .until("all of its own samples", |e| {
            samples += u32::from(matches!(e, Event::AgentSamples { .. }));
            samples == 20
        })
        .await;
    let mut about = BTreeSet::new();
    let mut troubles = Vec::new();
    for event in seen {
        match event {
            Event::PortsManaged { switch, .. } | Event::AgentSamples { switch, .. } => {
                about.insert(switch);
            }
            Event::AgentTrouble { agent, what } => troubles.push(format!("{agent}: {what}")),
            _ => {}
        }
    }
    assert_eq!(about, BTreeSet::from([edge1]), "not of {edge2} and {core1}");
    let claims: Vec<&String> = troubles.iter().filter(|t| t.contains("was not given")).collect();
    assert_eq!(claims.len(), 1, "said once in a minute: {troubles:?}");
    assert!(claims[0].contains("tandem agent allow mini1 --switch"), "{}", claims[0]);

    // Without a word: the switch that is called as the agent is, and no other.
    let named = server.enrol("edge2", &[]).await;
    let mut attached = server
        .attach(server.channel(Some(&named)).await, "edge2", &["edge2", "core1"])
        .await
        .expect("let in");
    assert_eq!(attached.desired().await, ["edge2"]);
    // Another name that was given the same switch is refused where it is given.
    let list = vec!["edge1".to_owned()];
    let taken =
        server.agents.authority.token("mini2", time::Duration::hours(1), Some(&list)).expect_err("mini1's");
    assert!(taken.to_string().contains("is agent \"mini1\"'s"), "{taken}");
}

#[tokio::test]
async fn enrolment_checks_before_it_believes_and_is_bounded() {
    let server = Server::start().await;
    let enrol = async |ask: wire::EnrolRequest| {
        let channel = server.channel(None).await;
        EnrolmentClient::new(channel).enrol(ask).await.expect_err("refused")
    };
    let long = enrol(wire::EnrolRequest { name: "n".repeat(20_000), ..Default::default() }).await;
    assert_eq!(long.code(), Code::InvalidArgument);
    assert!(long.message().len() < 300, "{} bytes", long.message().len());
    let odd = enrol(wire::EnrolRequest { name: "a\x1b[2J\nb".into(), ..Default::default() }).await;
    assert!(!odd.message().contains('\x1b') && !odd.message().contains('\n'), "{odd:?}");
    let large = wire::EnrolRequest { name: "mini1".into(), request: vec![0; 1 << 20], ..Default::default() };
    assert!(matches!(enrol(large).await.code(), Code::OutOfRange | Code::ResourceExhausted));
    let mut codes = Vec::new();
    for _ in 0..40 {
        let guess = wire::EnrolRequest { name: "mini1".into(), secret: "guess".into(), request: vec![1] };
        codes.push(enrol(guess).await.code());
    }
    assert!(
        codes.contains(&Code::PermissionDenied) && codes.last() == Some(&Code::ResourceExhausted),
        "{codes:?}"
    );
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_slow_ones_are_cut() {
    let server = Server::start().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    // They say nothing; one more is closed at once, the others when they have had their time.
    let mut more = TcpStream::connect(server.address).await.expect("the kernel accepts it");
    let end = tokio::time::timeout(LIMIT, more.read(&mut [0; 16])).await.expect("in time");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    for stream in &mut open {
        let end = tokio::time::timeout(LIMIT, stream.read(&mut [0; 16])).await.expect("in time");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    // There is room again.
    let one = server.enrol("edge1", &[]).await;
    server.attach(server.channel(Some(&one)).await, "edge1", &["edge1"]).await.expect("let in");
}

#[tokio::test]
async fn too_much_in_a_message_ends_the_connection_with_the_reason() {
    let mut server = Server::start().await;
    let one = server.enrol("edge1", &[]).await;
    let attached =
        server.attach(server.channel(Some(&one)).await, "edge1", &["edge1"]).await.expect("let in");
    let port = wire::PortReport { number: 1, classes: vec![Default::default(); 65], ..Default::default() };
    let switch = wire::SwitchReport { name: "edge1".into(), ports: vec![port], card: None };
    let report = wire::Report { switches: vec![switch], faults: Vec::new() };
    let message = wire::FromAgent { message: Some(wire::from_agent::Message::Report(report)) };
    attached.sender.send(message).await.expect("room");
    let seen = server.until("it is down", |e| matches!(e, Event::AgentDown { .. })).await;
    let Some(Event::AgentDown { why, .. }) = seen.last() else { panic!("{seen:?}") };
    assert!(why.contains("classes of a port: 65 of them; 64 are taken"), "{why}");
}

#[tokio::test]
async fn a_cards_outages_come_into_views_metrics_and_events_and_go_with_their_agent() {
    let mut server = Server::start().await;
    let one = server.enrol("edge1", &[]).await;
    let attached =
        server.attach(server.channel(Some(&one)).await, "edge1", &["edge1"]).await.expect("let in");
    let told = async |attached: &Attached, path: i32, outage_ms: f64, why: &str| {
        let card = wire::CardReport { path, outages: 2, outage_ms };
        let switch = wire::SwitchReport { name: "edge1".into(), ports: Vec::new(), card: Some(card) };
        let foreign = wire::SwitchReport { name: "edge2".into(), ..switch.clone() };
        let fault = wire::Fault { switch_name: "edge1".into(), port: 0, why: why.into() };
        let report = wire::Report { switches: vec![switch, foreign], faults: vec![fault] };
        let message = wire::FromAgent { message: Some(wire::from_agent::Message::Report(report)) };
        attached.sender.send(message).await.expect("room");
    };
    // A path that this controller does not know is no reason to turn an agent away.
    for (path, ms, word, forwards, seconds) in [
        (1, 250.5, "stopped", 0, "0.2505"),
        (0, 1500.0, "forwards", 1, "1.5"),
        (9, f64::NAN, "forwards", 1, "0"),
    ] {
        told(&attached, path, ms, "its data path has stopped").await;
        let said = |e: &Event| format!("{e:?}").contains("its data path has stopped");
        server.until("it is said", said).await;
        let view = tokio::time::timeout(LIMIT, async {
            loop {
                let view =
                    server.agents.views().into_iter().find(|v| v.name == "edge1").expect("it is there");
                let card = view.cards.first().cloned();
                let wanted = if ms.is_nan() { 0.0 } else { ms };
                if card.as_ref().is_some_and(|c| c.path == word && c.outage_ms == wanted) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let view = view.await.expect("in time");
        assert_eq!((view.cards.len(), view.cards[0].switch.as_str(), view.cards[0].outages), (1, "edge1", 2));
        let text = metrics::exposition(server.snapshot.load_full(), server.agents.figures()).expect("text");
        for line in [
            format!("tandem_card_forwards{{switch=\"edge1\"}} {forwards}"),
            "tandem_card_outages_total{switch=\"edge1\"} 2".to_owned(),
            format!("tandem_card_outage_seconds_total{{switch=\"edge1\"}} {seconds}"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
    drop(attached);
    server.until("it is down", |e| matches!(e, Event::AgentDown { .. })).await;
    let text = metrics::exposition(server.snapshot.load_full(), server.agents.figures()).expect("text");
    assert!(!text.contains("tandem_card_forwards{"), "{text}");
}

/// A peer that takes nothing: its desired states do not pile up, its connection ends, and it gets
/// the latest when it is back.
#[tokio::test]
async fn an_agent_that_does_not_read_is_disconnected_and_synchronised_anew() {
    let mut server = Server::start().await;
    let one = server.enrol("edge1", &[]).await;
    let deaf = server.attach(server.channel(Some(&one)).await, "edge1", &["edge1"]).await.expect("let in");
    let latest = async |server: &Server, n: u64| {
        let mut next = Snapshot::clone(&server.snapshot.load());
        next.version += n;
        let mut classes = next.classes.to_vec();
        for class in &mut classes {
            class.share.share = 30.0 + (n % 40) as f64;
        }
        next.classes = Arc::new(classes);
        let version = next.version;
        server.snapshot.store(Arc::new(next));
        server.version.send(version).expect("somebody listens");
    };
    let mut down = None;
    for n in 1..2000 {
        latest(&server, n).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        while let Ok(input) = server.events.try_recv() {
            if let Input::Event(Event::AgentDown { why, .. }) = input {
                down = Some(why);
            }
        }
        if down.is_some() {
            break;
        }
    }
    let why = down.expect("it is given up");
    assert!(why.contains("has not taken the last 8 desired states"), "{why}");
    drop(deaf);
    let mut back =
        server.attach(server.channel(Some(&one)).await, "edge1", &["edge1"]).await.expect("let in");
    assert_eq!(back.desired().await, ["edge1"]);
}
