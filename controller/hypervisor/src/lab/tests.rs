//! The client with a service of the test: which hellos it accepts, and how it translates messages.

use super::messages::{event, order};
use super::*;
use crate::router::{Timeouts, run};
use crate::{Driver, HypervisorReport};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tandem_agent_protocol::hypervisor::hypervisor_server::{Hypervisor, HypervisorServer};
use tandem_model::{BitRate, Bytes, Effect, FixedAddress, Mac, PortNo, Resources, VmId, VmSpec};
use tonic::{Request, Response, Status, Streaming};

const LIMIT: Duration = Duration::from_secs(60);

/// Sends a hello for a site, and counts attachments and orders.
#[derive(Clone)]
struct Service {
    site: &'static str,
    attached: Arc<AtomicUsize>,
    ordered: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Hypervisor for Service {
    type AttachStream = ReceiverStream<Result<wire::Report, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::Order>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.attached.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = mpsc::channel(4);
        let hello =
            wire::Hello { world: "w".into(), site: self.site.into(), traffic: false, ..Default::default() };
        let _ = sender.send(Ok(wire::Report { report: Some(Report::Hello(hello)) })).await;
        let (ordered, mut orders) = (self.ordered.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(_)) = orders.message().await {
                ordered.fetch_add(1, Ordering::SeqCst);
            }
            drop(sender);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A service for a site, with a client for the controller `own` attached; returns the reports to
/// the event loop.
fn begin(site: &'static str, own: &str) -> (tempfile::TempDir, Service, mpsc::Receiver<HypervisorReport>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("world.sock");
    let service = Service { site, attached: Arc::default(), ordered: Arc::default() };
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    let incoming = async_stream(listener);
    let server = tonic::transport::Server::builder().add_service(HypervisorServer::new(service.clone()));
    tokio::spawn(server.serve_with_incoming(incoming));
    let (event_loop, heard) = mpsc::channel(64);
    let owner = Owner { store: tandem_model::StoreUid(7), site: own.to_owned() };
    let driver = Driver::Service(Arc::new(Lab::new(path, vec![ServerId(0), ServerId(1)])));
    let timeouts = Timeouts::new(Duration::from_secs(300));
    tokio::spawn(async move { run(vec![driver], "", owner, timeouts, Arc::new(event_loop)).await });
    (folder, service, heard)
}

/// The listener's connections, one after the other.
fn async_stream(listener: tokio::net::UnixListener) -> ReceiverStream<std::io::Result<UnixStream>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(Ok(stream)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

#[tokio::test]
async fn a_world_of_another_site_is_refused_by_name_and_told_nothing() {
    let (_folder, service, mut heard) = begin("theirs", "ours");
    let start = tokio::time::Instant::now();
    // At the second attempt, the effects of the first would show.
    while service.attached.load(Ordering::SeqCst) < 2 {
        assert!(start.elapsed() < LIMIT, "the client does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(heard.try_recv().is_err(), "nothing of another site's world is taken for true");
    assert_eq!(service.ordered.load(Ordering::SeqCst), 0);
    let theirs = wire::Hello { site: "theirs\u{1b}".into(), ..Default::default() };
    let why = check_site(&theirs, "ours").expect_err("another's").to_string();
    assert!(
        why.contains("\"theirs\\u{1b}\"") && why.contains("\"ours\"") && why.contains("nothing was sent"),
        "{why}"
    );
}

#[tokio::test]
async fn the_own_site_s_world_and_one_that_does_not_say_are_attached() {
    for site in ["ours", ""] {
        let (_folder, _service, mut heard) = begin(site, "ours");
        let first = tokio::time::timeout(LIMIT, heard.recv()).await.expect("in time");
        assert!(matches!(first, Some(HypervisorReport::Attached(_))), "{site:?}");
        let second = tokio::time::timeout(LIMIT, heard.recv()).await.expect("in time");
        assert!(
            matches!(second, Some(HypervisorReport::Event(Event::VmsFound { ref vms })) if vms.is_empty()),
            "{site:?}"
        );
        let third = tokio::time::timeout(LIMIT, heard.recv()).await.expect("in time");
        assert!(
            matches!(third, Some(HypervisorReport::Event(Event::WorldUp { ref world, .. })) if world == "w"),
            "{site:?}"
        );
    }
}

fn some_load() -> impl Strategy<Value = Option<wire::Load>> {
    proptest::option::of((any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>()).prop_map(
        |(cpu_ns, ram_bytes, rx_bytes)| wire::Load { cpu_ns, ram_bytes, rx_bytes, ..Default::default() },
    ))
}

fn some_report() -> impl Strategy<Value = Report> {
    let hello = (".{0,9}", proptest::collection::vec(any::<(u64, u32)>(), 0..4), any::<bool>(), ".{0,9}");
    let loads = (any::<u32>(), some_load(), proptest::collection::vec((any::<u64>(), some_load()), 0..4));
    prop_oneof![
        hello.prop_map(|(world, vms, traffic, site)| {
            let vms = vms.into_iter().map(|(vm, server)| wire::Running { vm, server, kept: None }).collect();
            Report::Hello(wire::Hello { world, vms, traffic, site })
        }),
        any::<(u64, Option<u32>)>().prop_map(|(vm, address)| Report::Started(wire::Started { vm, address })),
        (any::<u64>(), ".{0,20}", any::<bool>()).prop_map(|(vm, why, died)| Report::Failed(wire::Failed {
            vm,
            why,
            died
        })),
        any::<u64>().prop_map(|vm| Report::Stopped(wire::Stopped { vm })),
        any::<(u64, Option<u64>)>()
            .prop_map(|(migration, downtime_ns)| Report::Moved(wire::Moved { migration, downtime_ns })),
        (any::<u64>(), any::<Option<u32>>(), ".{0,20}").prop_map(|(migration, at, why)| {
            Report::MigrationFailed(wire::MigrationFailed { migration, at, why })
        }),
        loads.prop_map(|(server, load, vms)| {
            let vms = vms.into_iter().map(|(vm, load)| wire::VmLoad { vm, load }).collect();
            Report::Loads(wire::Loads { server, load, vms })
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_a_service_reports_is_the_same_as_a_fact(report in some_report()) {
        match (report.clone(), event(report, "w")) {
            (Report::Hello(h), Event::WorldUp { world, traffic, .. }) => {
                prop_assert_eq!((h.world, h.traffic), (world, traffic));
            }
            (Report::Started(s), Event::VmStarted { vm, address }) => {
                prop_assert_eq!((s.vm, s.address), (vm.0, address.map(Ipv4Addr::to_bits)));
            }
            (Report::Failed(f), Event::VmFailed { vm, why }) => {
                prop_assert_eq!((f.vm, f.why, f.died), (vm.0, why, false));
            }
            (Report::Failed(f), Event::VmDied { vm, why }) => {
                prop_assert_eq!((f.vm, f.why, f.died), (vm.0, why, true));
            }
            (Report::Stopped(s), Event::VmStopped { vm }) => prop_assert_eq!(s.vm, vm.0),
            (Report::Moved(m), Event::VmMoved { migration, downtime }) => {
                prop_assert_eq!(m.migration, migration.0);
                prop_assert_eq!(m.downtime_ns.map(Duration::from_nanos), downtime);
            }
            (Report::MigrationFailed(f), Event::MigrationFailed { migration, at, why }) => {
                prop_assert_eq!((f.migration, f.at, f.why), (migration.0, at.map(|s| s.0), why));
            }
            (Report::Loads(l), Event::ServerSamples { server, sample, vms }) => {
                prop_assert_eq!((l.server, l.vms.len()), (server.0, vms.len()));
                // Unknown counters are all ones, and never zero.
                let cpu = l.load.and_then(|l| l.cpu_ns).unwrap_or(u64::MAX);
                prop_assert_eq!(cpu, sample.cpu_ns);
            }
            (report, event) => prop_assert!(false, "{:?} became {:?}", report, event),
        }
    }

    #[test]
    fn an_order_says_all_that_was_wished(
        vm in any::<u64>(), server in any::<u32>(), cpu in any::<u32>(), bytes in any::<[u64; 3]>(), mac in any::<[u8; 6]>(),
        address in any::<u32>(), port in any::<u32>(), fixed in any::<Option<(u32, u8, u32)>>(),
        name in proptest::option::of(".{1,9}"),
    ) {
        let resources =
            Resources { cpu, ram: Bytes(bytes[0]), disk: Bytes(bytes[1]), net: BitRate(bytes[2]) };
        let fixed_address = fixed.map(|(address, prefix_len, router)| FixedAddress {
            address: address.into(),
            prefix_len,
            router: router.into(),
        });
        let spec = serde_json::json!({
            "resources": resources, "name": name, "mac": Mac(mac), "address": Ipv4Addr::from(address),
            "uplink_port": PortNo(port), "fixed_address": fixed_address,
        });
        let spec: VmSpec = serde_json::from_value(spec).expect("its fields");
        let Some(Kind::Allocate(a)) = order(Effect::AllocateVm { vm: VmId(vm), server: ServerId(server), spec })
        else {
            return Err(TestCaseError::fail("a wish for a VM is an order"));
        };
        prop_assert_eq!((a.vm, a.server, a.address, a.uplink_port), (vm, server, address, port));
        prop_assert_eq!((a.mac, a.name), (mac.to_vec(), name.unwrap_or_default()));
        let r = a.resources.unwrap_or_default();
        prop_assert_eq!((r.cpu_cores, [r.ram_bytes, r.disk_bytes, r.net_bit_per_s]), (cpu, bytes));
        let same = a.fixed_address.map(|f| (f.address, f.prefix_len, f.router));
        prop_assert_eq!(same, fixed.map(|(a, p, r)| (a, u32::from(p), r)));
    }
}
