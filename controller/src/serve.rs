//! `tandem serve`: puts the parts together, runs until SIGTERM or SIGINT, and leaves the switches forwarding.

use crate::agents::{self, Agents, authority::Authority};
use crate::hub::{Hub, Input, QUEUE, now};
use crate::store::{Sqlite, Store, Writer};
use crate::switches::{self, Address, Listener};
use crate::vmm::{self, hosts::Hypervisors, router::Patience};
use crate::{api, exporter, metrics, moves};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tandem_core::Core;
use tandem_core::recording::{Header, Recording};
use tandem_model::{Site, site};
use tandem_switch_driver::Cfg;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Packets a second and switch that go to the core.
const PACKET_INS: u32 = 5000;

/// What `tandem serve` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The site file.
    #[arg(long)]
    pub site: PathBuf,
    /// Where switches connect: tcp:ADDRESS:PORT or unix:PATH; may be given several times.
    #[arg(long, default_values = ["tcp:127.0.0.1:6653", "unix:/run/tandem/openflow.sock"])]
    pub openflow: Vec<Address>,
    /// Where agents connect: tcp:ADDRESS:PORT (by mutual TLS) or unix:PATH (whoever may open it); may be given several times.
    #[arg(long, default_values = ["tcp:127.0.0.1:6655", "unix:/run/tandem/agents.sock"])]
    pub agents: Vec<Address>,
    /// Folder of the agents' certificate authority; by default `agents` beside the store.
    #[arg(long)]
    pub authority: Option<PathBuf>,
    /// Where the API listens besides --api: unix:PATH, or tcp: on a loopback address; may be given several times.
    #[arg(long)]
    pub also_listen: Vec<Address>,
    /// The store's file.
    #[arg(long, default_value = "tandem.sqlite")]
    pub store: PathBuf,
    /// The hypervisor service's Unix socket, a path or @NAME; by default that of a lab with the site's name.
    #[arg(long)]
    pub world: Option<PathBuf>,
    /// The hypervisors file: real hypervisors instead of a lab's service.
    #[arg(long, conflicts_with = "world")]
    pub hypervisors: Option<PathBuf>,
    /// Folder for the statistics' CSV files.
    #[arg(long)]
    pub csv: Option<PathBuf>,
    /// Record everything that happens, for `tandem replay`.
    #[arg(long)]
    pub record: Option<PathBuf>,
    /// Stop when standard input closes: for whoever starts a controller and may be killed.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// Reads and checks a site file.
///
/// # Errors
/// When it cannot be read, or with all its faults.
pub fn read_site(path: &Path) -> anyhow::Result<Site> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the site file {}", path.display()))?;
    Ok(site::read(&text, &path.display().to_string())?)
}

/// Runs the controller until it is told to stop.
///
/// # Errors
/// When a part cannot start; then nothing is left running.
pub async fn run(options: Options, api: Address) -> anyhow::Result<()> {
    let api_addresses: Vec<Address> = std::iter::once(api).chain(options.also_listen.clone()).collect();
    let site = Arc::new(read_site(&options.site)?);
    // Everything that can be refused is tried before anything is changed.
    let hypervisors = options.hypervisors.as_deref().map(|f| Hypervisors::load(f, &site)).transpose()?;
    let drivers = hypervisors.as_ref().map(|h| vmm::drivers(h, &site.name)).transpose()?;
    let mut sockets = Sockets::default();
    let mut openflow = Vec::new();
    for address in &options.openflow {
        make_folder(address)?;
        openflow.push(switches::listen(address).await?);
        sockets.made(address);
    }
    let mut agent_listeners = Vec::new();
    for address in &options.agents {
        make_folder(address)?;
        agent_listeners.push(switches::listen(address).await?);
        sockets.made(address);
        if let Address::Unix(path) = address {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
    }
    let mut apis = Vec::new();
    for address in &api_addresses {
        apis.push(listen_api(address).await?);
        sockets.made(address);
    }
    let mut store = Sqlite::open(&options.store)?;
    let stored = store.load()?;
    let folder = options.authority.clone().unwrap_or_else(|| options.store.with_file_name("agents"));
    let authority = Authority::open(&folder)?;
    let started = now();
    let recording =
        options.record.as_deref().map(|path| record(path, &site, &stored, started)).transpose()?;
    let (known, last) = (stored.vms.len(), stored.last_vm);
    let core = Core::new(site.clone(), stored, started);

    let (sender, receiver) = mpsc::channel(QUEUE);
    let writer = Writer::start(Box::new(store), sender.clone())?;
    let (hub, handle) = Hub::new(core, (sender.clone(), receiver), writer, recording);
    let driver = Cfg {
        poll_period: site.statistics.period,
        lldp_period: site.modules.discovery.then_some(site.discovery.lldp_period),
        secret: secret()?,
        packet_ins: PACKET_INS,
        session: tandem_openflow::session::Cfg::default(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    for listener in openflow {
        tasks.spawn(switches::accept(listener, driver, sender.clone()));
    }
    let agents = Agents::new(authority, options.agents.clone(), handle.clone(), site.clone());
    tasks.spawn(agents.clone().serve(agent_listeners)?);
    for listener in apis {
        let router = api::router(handle.clone())
            .merge(agents::api::router(agents.clone()))
            .merge(moves::router(handle.clone()))
            .merge(metrics::router(handle.clone(), agents.clone()));
        tasks.spawn(async move {
            let served = match listener {
                Listener::Tcp(l) => axum::serve(l, router).await,
                Listener::Unix(l) => axum::serve(l, router).await,
            };
            if let Err(error) = served {
                tracing::error!("the API has stopped: {error}");
            }
        });
    }
    if let Some(drivers) = drivers {
        if let Some(missing) = hypervisors.map(|h| h.missing(&site).join(", ")).filter(|m| !m.is_empty()) {
            tracing::warn!("no hypervisor is known for {missing}; VMs that are placed there will fail");
        }
        let (patience, hub) = (Patience::new(site.migration.timeout), sender.clone());
        tasks.spawn(async move { vmm::router::run(drivers, "hypervisors", patience, hub).await });
    } else {
        let service = options.world.clone().unwrap_or_else(|| vmm::emulated::default_world(&site.name));
        tasks.spawn(vmm::emulated::attach(service, sender.clone()));
    }
    if let Some(folder) = options.csv.clone().filter(|_| site.modules.exporter) {
        tasks.spawn(exporter::run(folder, site.statistics.period, handle.clone()));
    }
    let listening: Vec<String> = options.openflow.iter().map(ToString::to_string).collect();
    tracing::info!(
        "site {}: {} switches, {} servers; {known} VMs in the store (last {last}); switches connect to {}",
        site.name,
        site.topology.switches.len(),
        site.topology.servers.len(),
        listening.join(" and ")
    );

    let running = tokio::spawn(hub.run());
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => tracing::info!("stopping; switches keep forwarding"),
        _ = int.recv() => tracing::info!("stopping; switches keep forwarding"),
        () = closed_input(), if options.until_stdin_closes => tracing::info!("standard input has closed; stopping"),
    }
    let _ = sender.send(Input::Stop).await;
    running.await?;
    tasks.shutdown().await;
    Ok(())
}

/// Waits for the end of standard input. On a thread of its own, which ends with the process: a read cannot be given up.
async fn closed_input() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// The files of Unix sockets that we listen on; they go when this does, also when a later part cannot start.
#[derive(Default)]
struct Sockets(Vec<PathBuf>);

impl Sockets {
    fn made(&mut self, address: &Address) {
        if let Address::Unix(path) = address {
            self.0.push(path.clone());
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn listen_api(address: &Address) -> anyhow::Result<Listener> {
    match address {
        Address::Tcp(a) => {
            let loopback = tokio::net::lookup_host(a)
                .await
                .with_context(|| format!("{a} is no address"))?
                .all(|s| s.ip().is_loopback());
            if !loopback {
                bail!(
                    "the API has no accounts yet, so it listens on loopback only; write tcp:127.0.0.1:8080 or unix:PATH"
                );
            }
        }
        Address::Unix(path) => {
            if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).with_context(|| {
                    format!("cannot make {} for the API's socket; choose another --api", folder.display())
                })?;
            }
        }
    }
    let listener = switches::listen(address).await?;
    if let Address::Unix(path) = address {
        // The socket is the access right: its owner only.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(listener)
}

/// The folder of a Unix socket, made if it is not there.
fn make_folder(address: &Address) -> anyhow::Result<()> {
    let Address::Unix(path) = address else { return Ok(()) };
    let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {} for a socket; choose another place", folder.display()))
}

fn record(
    path: &Path,
    site: &Site,
    stored: &tandem_model::Stored,
    started: tandem_model::Time,
) -> anyhow::Result<Recording<std::io::BufWriter<std::fs::File>>> {
    let header = Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy: format!("{:?}", site.policy.allocation),
        seed: 0,
        site: site.clone(),
        stored: stored.clone(),
        started,
    };
    let fail = || format!("cannot write the recording {}", path.display());
    let file = std::fs::File::create(path).with_context(fail)?;
    Recording::new(std::io::BufWriter::new(file), &header).with_context(fail)
}

/// A number that nobody else knows, from the kernel.
fn secret() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(u64::from_ne_bytes(bytes))
}
