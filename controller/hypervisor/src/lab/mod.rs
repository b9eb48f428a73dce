//! The driver for a lab's hypervisor service (`hypervisor.proto`): attaches over a Unix socket, and
//! again whenever the service comes back.
//!
//! It is a [`HypervisorService`]: orders are passed on as they are, since the service keeps their
//! order itself, ignores repeated ones, and repeats the result of a migration. One connection is
//! for all of its servers (docs/adr/0017).

mod messages;
pub mod section;
#[cfg(test)]
mod tests;

use crate::owner::Owner;
use crate::router::ServiceLink;
use crate::{HypervisorService, ORDERS, ServiceHello};
use messages::{event, found, order};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_agent_protocol::hypervisor::hypervisor_client::HypervisorClient;
use tandem_agent_protocol::hypervisor::{self as wire, order::Order as Kind, report::Report};
use tandem_agent_protocol::lab_sockets::{LAB, Lab as LabSockets};
use tandem_agent_protocol::local_peers::check_server;
use tandem_model::text::{escaped, escaped_to};
use tandem_model::{Event, ServerId};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::async_trait;
use tonic::transport::{Endpoint, Uri};

/// The socket of this user's lab with that name.
pub fn default_world(lab: &str) -> PathBuf {
    LabSockets::own(lab).world().into()
}

/// The user in a service's name: root may name another user's.
fn user_of(socket: &Path) -> Option<u32> {
    let name = socket.to_str()?.strip_prefix('@')?;
    LabSockets::of_socket(LAB, name).map(|(lab, _)| lab.owner)
}

/// Connects, and checks the server's user before anything is sent: any user may listen on such a
/// name.
async fn connect(path: PathBuf, user: Option<u32>) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    check_server(stream.peer_cred()?.uid(), user)
        .map_err(|refused| std::io::Error::new(std::io::ErrorKind::PermissionDenied, refused))?;
    Ok(stream)
}

/// Orders on their way to the service; it may hold as many again.
const QUEUE: usize = 256;
/// How long an order may wait for room before the service counts as gone.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the service may take for its hello.
const HELLO: Duration = Duration::from_secs(20);
/// Pause between attempts to reach the service.
const RETRY: Duration = Duration::from_millis(300);
/// The same pause while it serves another controller.
const REFUSED_RETRY: Duration = Duration::from_secs(2);

/// A lab's hypervisor service, as the driver of its servers.
#[derive(Debug)]
pub struct Lab {
    name: String,
    socket: PathBuf,
    servers: Vec<ServerId>,
}

impl Lab {
    /// The service at a Unix socket, a path or `@NAME`; does not connect yet.
    pub fn new(socket: PathBuf, servers: Vec<ServerId>) -> Lab {
        Lab { name: format!("the hypervisor service {}", socket.display()), socket, servers }
    }

    /// Runs one connection until it ends.
    async fn session(&self, owner: &Owner, link: &ServiceLink) -> anyhow::Result<()> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut client = HypervisorClient::new(channel(&self.socket).await?);
        let request = introduced(ReceiverStream::new(queue), owner);
        let mut reports = client.attach(request).await?.into_inner();
        // The service sends its hello first. Until its site is checked, no order is sent, and no
        // report is used.
        let hello = tokio::time::timeout(HELLO, reports.message()).await;
        let hello = hello.map_err(|_| anyhow::anyhow!("it has not said hello within {HELLO:?}"))??;
        let Some(Report::Hello(hello)) = hello.and_then(|r| r.report) else {
            anyhow::bail!("it says something else before hello; is it a hypervisor service?");
        };
        check_site(&hello, &owner.site)?;
        let world = hello.world.clone();
        let vms = hello.vms.iter().map(found).collect();
        let hello = ServiceHello { world: world.clone(), vms, traffic: hello.traffic };
        let mut inbox = link.up(hello).await?;
        let mut waiting: Option<(Kind, tokio::time::Instant)> = None;
        loop {
            let until = waiting.as_ref().map_or_else(tokio::time::Instant::now, |(_, until)| *until);
            tokio::select! {
                // Reports are read while an order waits: the service may have to send one before it
                // reads on.
                report = reports.message() => match report?.and_then(|r| r.report) {
                    Some(Report::Hello(_)) => anyhow::bail!("it says hello again; it is attached anew"),
                    Some(report) => link.event(event(report, &world)).await?,
                    None => return Ok(()),
                },
                room = sender.reserve(), if waiting.is_some() => {
                    let room = room?;
                    if let Some((order, _)) = waiting.take() {
                        room.send(wire::Order { order: Some(order) });
                    }
                },
                effect = inbox.recv(), if waiting.is_none() => match effect {
                    Some(effect) => {
                        let deadline = tokio::time::Instant::now() + ORDER_TIMEOUT;
                        waiting = order(effect).map(|o| (o, deadline));
                    }
                    None => anyhow::bail!(
                        "more than {ORDERS} orders were waiting for it; it gets everything again"
                    ),
                },
                () = tokio::time::sleep_until(until), if waiting.is_some() => {
                    anyhow::bail!("it has taken no order for {ORDER_TIMEOUT:?}; it gets everything again")
                }
            }
        }
    }
}

#[async_trait]
impl HypervisorService for Lab {
    fn name(&self) -> &str {
        &self.name
    }

    fn servers(&self) -> &[ServerId] {
        &self.servers
    }

    async fn attach(&self, owner: &Owner, link: ServiceLink) {
        let mut said = String::new();
        while !link.is_closed() {
            let (why, refused) = match self.session(owner, &link).await {
                Ok(()) => ("it closed the connection".to_owned(), false),
                Err(error) => match refusal(&error) {
                    Some(why) => (why, true),
                    None => (format!("{error:#}"), false),
                },
            };
            link.down(why.clone()).await;
            if why != said {
                if refused {
                    let world = self.name.clone();
                    let _ = link.event(Event::WorldRefused { world, why: why.clone() }).await;
                } else if why.contains("nothing was sent to it") || why.contains("may not use") {
                    tracing::warn!("{}: {why}; trying again", self.name);
                } else {
                    tracing::debug!("{}: {why}; trying again", self.name);
                }
                said = why;
            }
            // A service that serves another controller serves this one once that has gone.
            tokio::time::sleep(if refused { REFUSED_RETRY } else { RETRY }).await;
        }
    }
}

/// Connects to the service at a socket.
async fn channel(socket: &Path) -> anyhow::Result<tonic::transport::Channel> {
    // `@name` is an abstract socket (unix(7)): its address starts with a NUL.
    let path = match socket.to_str().and_then(|s| s.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => socket.to_owned(),
    };
    let user = user_of(socket);
    // The URI is not used: the connector has the address.
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { connect(path, user).await.map(hyper_util::rt::TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://hypervisor").connect_with_connector(connector).await?)
}

/// The reason why a service refuses this controller, if the error is that.
fn refusal(error: &anyhow::Error) -> Option<String> {
    let status = error.downcast_ref::<tonic::Status>()?;
    let refused = status.code() == tonic::Code::FailedPrecondition;
    refused.then(|| escaped_to(status.message(), 500).to_string())
}

/// A request with this controller's identity.
fn introduced<T>(message: T, owner: &Owner) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata = request.metadata_mut();
    for (key, value) in [("tandem-store", owner.store.to_string()), ("tandem-site", owner.site.clone())] {
        // Characters that metadata cannot hold are replaced: the value is for people.
        let plain: String = value.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        if let Ok(value) = plain.parse() {
            metadata.insert(key, value);
        }
    }
    request
}

/// Refuses a service of another site; one of an earlier release does not name its site.
fn check_site(hello: &wire::Hello, site: &str) -> anyhow::Result<()> {
    if hello.site.is_empty() || hello.site == site {
        return Ok(());
    }
    anyhow::bail!(
        "its servers are those of the site \"{}\", and this is the controller of \"{}\"; nothing was sent to it. Serve that site's file, or \
         name another service with --world",
        escaped(&hello.site),
        escaped(site)
    )
}
