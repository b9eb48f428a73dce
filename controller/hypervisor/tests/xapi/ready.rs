//! A driver connected to a double, and checks of both.

use crate::double::{Double, MASTER, PASSWORD};
use std::time::Duration;
use tandem_hypervisor::xapi::Xapi;
use tandem_hypervisor::xapi::config::{Access, Limits, PoolConfig, Protocol, ServerConfig, Transport};
use tandem_hypervisor::xapi::rpc::tls::Fingerprint;
use tandem_hypervisor::{MigrateOrder, MigrationControl, MigrationKey, MigrationReport};
use tandem_model::{
    BitRate, Bytes, Mac, MigrationId, MigrationMode, PortNo, Resources, ServerId, VmId, VmSpec,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const SRV1: ServerId = ServerId(0);
pub(crate) const SRV2: ServerId = ServerId(1);
/// A server of a second pool.
pub(crate) const SRV3: ServerId = ServerId(2);

/// Longer than any wait of the tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn pool(double: &Double, first: ServerId) -> PoolConfig {
    let server = |n: u32, host: &str| ServerConfig {
        server: ServerId(first.0 + n),
        name: format!("srv{}", first.0 + n + 1),
        host: host.to_owned(),
        uplinks: vec![(PortNo(1), "production".to_owned()), (PortNo(2), "xenbr1".to_owned())],
    };
    PoolConfig {
        access: Access {
            name: if first == SRV1 { "lab".to_owned() } else { "other".to_owned() },
            address: MASTER.to_owned(),
            port: double.port,
            user: "root".to_owned(),
            password: PASSWORD.to_owned(),
            transport: match double.fingerprint {
                Some(f) => Transport::Tls(vec![Fingerprint(f)]),
                None => Transport::Plain,
            },
            protocol: Protocol::Auto,
            limit: Duration::from_secs(20),
        },
        servers: vec![server(0, "xcp1"), server(1, "xcp2")],
        limits: Limits {
            make: LIMIT,
            shutdown: LIMIT,
            migrate: LIMIT,
            cancel: LIMIT,
            doubt: Duration::from_secs(1),
        },
    }
}

pub(crate) fn driver(pools: Vec<PoolConfig>) -> Xapi {
    Xapi::new("mine", pools, Vec::new())
}

pub(crate) fn spec(image: &str) -> VmSpec {
    VmSpec {
        resources: Resources { cpu: 1, ram: Bytes::mib(256), disk: Bytes(0), net: BitRate(0) },
        name: Some("web".to_owned()),
        image: Some(image.to_owned()),
        mac: Mac([2, 0, 0, 0, 0, 7]),
        address: [10, 9, 0, 101].into(),
        uplink_port: PortNo(1),
        fixed_address: None,
        origin: Default::default(),
    }
}

pub(crate) fn order(from: ServerId, to: ServerId, manner: MigrationMode) -> MigrateOrder {
    MigrateOrder {
        key: MigrationKey { migration: MigrationId(1), vm: VmId(7), from, to },
        manner,
        spec: spec("debian-12"),
        downtime: Duration::from_millis(300),
        rounds: 30,
    }
}

/// The control of a move, with the test's ends.
pub(crate) fn control() -> (MigrationControl, mpsc::Receiver<MigrationReport>, CancellationToken) {
    let (reports, heard) = mpsc::channel(1024);
    let cancel = CancellationToken::new();
    let (_, rate) = watch::channel(BitRate(0));
    (MigrationControl { reports, rate, cancel: cancel.clone() }, heard, cancel)
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"));
}
