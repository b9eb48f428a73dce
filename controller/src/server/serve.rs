//! `tandem serve`: puts the parts together, runs until SIGTERM or SIGINT, and leaves the switches
//! forwarding.

use crate::agents::{Agents, authority::Authority};
use crate::clock::now;
use crate::event_loop::{EventLoop, HypervisorInputs, Input, QUEUE};
use crate::openflow_server::{self, Address, Server};
use crate::server::http::guard::{Guard, HostName, guard};
use crate::server::http::listen::{self, ApiListener};
use crate::server::text_socket::{self, TextAddress};
use crate::server::{csv, http};
use crate::store::place::{self, Surroundings};
use crate::store::tokens::Tokens;
use crate::store::{Sqlite, Writer};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tandem_core::Core;
use tandem_core::record_replay::{Header, Recording};
use tandem_hypervisor::lab::section::LabConfig;
use tandem_hypervisor::{Driver, config::Hypervisors, owner::Owner, router};
use tandem_model::{PersistedState, Site};
use tandem_switch_driver::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Packets a second and switch that go to the core.
const PACKET_INS: u32 = 5000;

/// What `tandem serve` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The site file; where there is none, `tandem init` makes one (asked for here on a terminal).
    #[arg(long, default_value = "site.toml")]
    pub site: PathBuf,
    /// Where switches connect: tcp:ADDRESS:PORT or unix:PATH; may be given several times.
    #[arg(long, default_values = ["tcp:127.0.0.1:6653", "unix:/run/tandem/openflow.sock"])]
    pub openflow: Vec<Address>,
    /// Where agents connect: tcp:ADDRESS:PORT (by mutual TLS) or unix:PATH (whoever may open it);
    /// may be given several times.
    #[arg(long, default_values = ["tcp:127.0.0.1:6655", "unix:/run/tandem/agents.sock"])]
    pub agents: Vec<Address>,
    /// Folder of the agents' certificate authority; by default `agents` beside the store.
    #[arg(long)]
    pub authority: Option<PathBuf>,
    /// Where the API listens besides --api: unix:PATH, or tcp: on a loopback address; may be given
    /// several times.
    #[arg(long)]
    pub also_listen: Vec<Address>,
    /// Another name by which the API may be asked (of a proxy before it): NAME or NAME:PORT; may be
    /// given several times.
    #[arg(long, value_name = "NAME")]
    pub api_host: Vec<HostName>,
    /// A group whose members may use the API's Unix socket, beside its owner and root.
    #[arg(long, value_name = "GROUP")]
    pub api_group: Option<String>,
    /// Where requests in the thesis' text protocol are taken (docs/text-socket.md): a path, or
    /// tcp:ADDRESS:PORT, where whoever reaches it may request VMs; by default `[requests] text_socket`
    /// of the site file, or nowhere.
    #[arg(long, value_name = "PATH")]
    pub text_socket: Option<TextAddress>,
    /// The store's file; by default store.sqlite in the site's own folder: /var/lib/tandem/SITE for
    /// root, $XDG_STATE_HOME/tandem/SITE (~/.local/state/tandem/SITE) for others.
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// The hypervisor service's Unix socket, a path or @NAME; by default that of a lab with the
    /// site's name.
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
    Ok(tandem_core::site::read(&text, &path.display().to_string())?)
}

/// Runs the controller until it is told to stop.
///
/// # Errors
/// When a part cannot start; then nothing is left running.
pub async fn run(options: Options, api: Address) -> anyhow::Result<()> {
    let api_addresses: Vec<Address> = std::iter::once(api).chain(options.also_listen.clone()).collect();
    crate::new_site::offer(&options.site)?;
    let site = Arc::new(read_site(&options.site)?);
    // Everything that can be refused is tried before anything is changed.
    let hypervisors = options.hypervisors.as_deref().map(|f| Hypervisors::load(f, &site)).transpose()?;
    let drivers = drivers(hypervisors.as_ref(), options.world.clone(), &site)?;
    let descriptors = listen::raise_descriptors();
    let mut sockets = Sockets::default();
    let mut openflow = Vec::new();
    for address in &options.openflow {
        make_folder(address)?;
        openflow.push(openflow_server::listen(address).await?);
        sockets.made(address);
    }
    let mut agent_listeners = Vec::new();
    for address in &options.agents {
        make_folder(address)?;
        agent_listeners.push(openflow_server::listen(address).await?);
        sockets.made(address);
        if let Address::Unix(path) = address {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
    }
    let mut apis = Vec::new();
    for address in &api_addresses {
        apis.push(listen::listen(address, options.api_group.as_deref()).await?);
        sockets.made(address);
    }
    let of_site =
        site.requests.text_socket.as_deref().map(str::parse).transpose().map_err(anyhow::Error::msg)?;
    let mut text_requests = None;
    if let Some(address) = options.text_socket.clone().or(of_site) {
        text_requests = Some(text_socket::listen(&address, options.api_group.as_deref()).await?);
        sockets.made(&address.0);
    }
    let (place, store, stored) = open_store(options.store.as_deref(), &site)?;
    let folder = options.authority.clone().unwrap_or_else(|| place.with_file_name("agents"));
    if folder.exists() {
        // Before it is opened: nothing of another site's is changed.
        place::claim_agents(&folder, &site.name)?;
    }
    let authority = Authority::open(&folder)?;
    place::claim_agents(&folder, &site.name)?;
    let tokens = Tokens::open(&place)?;
    let started = now();
    let recording =
        options.record.as_deref().map(|path| record(path, &site, &stored, started)).transpose()?;
    let owner = Owner::of(store.identity());
    let (known, last) = (stored.vms.len(), stored.last_vm);
    let core = Core::new(site.clone(), stored, started)?;

    let (sender, receiver) = mpsc::channel(QUEUE);
    let writer = Writer::start(Box::new(store), sender.clone())?;
    let (event_loop, handle) = EventLoop::new(core, (sender.clone(), receiver), writer, recording);
    let driver = Config {
        poll_period: site.statistics.poll_period(),
        lldp_period: site.modules.discovery.then_some(site.discovery.lldp_period),
        secret: secret()?,
        packet_ins: PACKET_INS,
        session: tandem_openflow::session::Config::default(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    let ids = site.topology.switches.iter().filter(|s| !s.legacy).map(|s| s.dpid);
    let places = listen::share_of_switches(descriptors);
    let server = Server::new(driver, ids, places, sender.clone());
    for listener in openflow {
        tasks.spawn(openflow_server::accept(listener, server.clone()));
    }
    let agents = Agents::new(authority, options.agents.clone(), handle.clone(), site.clone());
    tasks.spawn(agents.clone().serve(agent_listeners)?);
    let most = listen::share_of(descriptors, apis.len());
    for listener in apis {
        let guarding = match &listener {
            ApiListener::Tcp(_, address) => Guard::of_tcp(*address, &options.api_host, tokens.clone()),
            ApiListener::Unix(..) => Guard::of_unix(&options.api_host, tokens.clone()),
        };
        let routes = http::routes(http::Api::new(handle.clone(), agents.clone(), tokens.clone()));
        let routes = routes.layer(axum::middleware::from_fn_with_state(guarding, guard));
        tasks.spawn(listen::serve(listener, routes, most));
    }
    if let Some(listener) = text_requests {
        let requester = site.requests.requester.clone();
        tasks.spawn(text_socket::serve(listener, requester, handle.clone()));
    }
    let reports = Arc::new(HypervisorInputs(sender.clone()));
    let timeouts = router::Timeouts::new(site.migration.timeout);
    tasks.spawn(async move { router::run(drivers, "hypervisors", owner, timeouts, reports).await });
    if let Some(folder) = options.csv.clone().filter(|_| site.modules.exporter) {
        tasks.spawn(csv::run(folder, site.statistics.period, handle.clone()));
    }
    let listening: Vec<String> = options.openflow.iter().map(ToString::to_string).collect();
    tracing::info!(
        "site {}: {} switches, {} servers; {known} VMs in the store (last {last}); switches connect to {}",
        site.name,
        site.topology.switches.len(),
        site.topology.servers.len(),
        listening.join(" and ")
    );

    let running = tokio::spawn(event_loop.run());
    tasks.spawn(crate::service_manager::attend(sender.clone()));
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

/// The drivers of the hypervisors file; without one, that of a lab that serves the whole site.
fn drivers(file: Option<&Hypervisors>, world: Option<PathBuf>, site: &Site) -> anyhow::Result<Vec<Driver>> {
    let Some(file) = file else { return Ok(vec![LabConfig::of_site(site, world).open()]) };
    let missing = file.missing(site);
    if !missing.is_empty() {
        let names = missing.join(", ");
        tracing::warn!("no hypervisor is known for {names}; VMs that are placed there will fail");
    }
    file.drivers(&site.name)
}

/// Finds, opens and checks the site's store, and says where it is.
fn open_store(given: Option<&Path>, site: &Site) -> anyhow::Result<(PathBuf, Sqlite, PersistedState)> {
    let place = match given {
        Some(file) => file.to_owned(),
        None => {
            let place = place::find(&site.name, &Surroundings::of_process())?;
            if let Some(former) = &place.taken_over {
                tracing::warn!(
                    kind = "store-taken-over",
                    "the store {} (and its agents) was taken over to {}; what was there is kept as {}.taken-over",
                    former.display(),
                    place.file.display(),
                    former.display()
                );
            }
            if let Some((former, why)) = &place.left {
                tracing::warn!(
                    kind = "store-left",
                    "there is a store {} too, which is not used: {why}; used is {}",
                    former.display(),
                    place.file.display()
                );
            }
            place.file
        }
    };
    let mut store = Sqlite::open(&place, site)?;
    let (stored, left) = store.load_for(site)?;
    let identity = store.identity();
    tracing::info!(
        kind = "store",
        "the store is {} (identity {}, of site {})",
        place.display(),
        identity.id,
        identity.site
    );
    for finding in left {
        tracing::warn!(kind = "store-leftover", "in the store, {finding}");
    }
    Ok((place, store, stored))
}

/// Waits for the end of standard input. On a thread of its own, which ends with the process: a read
/// cannot be given up.
async fn closed_input() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// The files of Unix sockets that we listen on; they go when this does, also when a later part
/// cannot start.
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
    stored: &tandem_model::PersistedState,
    started: tandem_model::Time,
) -> anyhow::Result<Recording<std::io::BufWriter<std::fs::File>>> {
    let header = Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy: site.policy.allocation.to_string(),
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
