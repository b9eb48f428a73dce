//! The calls of agents: enrolment, renewal of the certificate, and attaching.

use crate::agents::connection::Peer;
use crate::agents::limits::{self, Subject};
use crate::agents::session::{Session, ToAgent};
use crate::agents::{Agents, HANDSHAKE, ORDERS, bounds};
use tandem_agent_protocol::agent as wire;
use tandem_agent_protocol::agent::agents_server::Agents as AgentsService;
use tandem_agent_protocol::agent::enrolment_server::Enrolment;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl Enrolment for Agents {
    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let address = Peer::of(&request).address();
        let ask = request.into_inner();
        // Checked before any of it is used or logged.
        if !self.limits.may_enrol(address) {
            self.limits.warn(address, Subject::Enrolment, || {
                format!("enrolments from {} are held back: too many in a minute", shown_address(address))
            });
            return Err(Status::resource_exhausted(
                "too many enrolments from this address; try again in a minute",
            ));
        }
        if let Err(why) = bounds::check_enrolment(&ask) {
            let line = || format!("enrolment from {} refused: {why}", shown_address(address));
            self.limits.warn(address, Subject::Enrolment, line);
            return Err(Status::invalid_argument(why.to_string()));
        }
        match self.authority.enrol(&ask.name, &ask.secret, &ask.request) {
            Ok(certificate) => {
                // The certificate of a connection with that name is no longer valid.
                self.disconnect(&ask.name);
                tracing::info!(kind = "agent-enrolled", "agent {} is enrolled", ask.name);
                let authority = self.authority.certificate().to_owned();
                Ok(Response::new(wire::Certificate { certificate, authority }))
            }
            Err(why) => {
                let why = why.to_string();
                let line = || format!("enrolment as {:?} refused: {}", ask.name, bounds::line(&why));
                self.limits.warn(address, Subject::Enrolment, line);
                Err(Status::permission_denied(why))
            }
        }
    }
}

fn shown_address(address: limits::Address) -> String {
    address.map_or_else(|| "the Unix socket".to_owned(), |a| a.to_string())
}

#[tonic::async_trait]
impl AgentsService for Agents {
    type AttachStream = ReceiverStream<ToAgent>;

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::Certificate>, Status> {
        let (name, serial) = match Peer::of(&request) {
            Peer::Certified(name, serial, _) => (name, serial),
            Peer::Refused(why) => return Err(Status::permission_denied(why)),
            Peer::Local | Peer::Unknown(_) => {
                return Err(Status::unauthenticated("only an agent with a certificate can renew it"));
            }
        };
        let renewed = self.authority.renew(&name, &serial, &request.into_inner().request);
        let certificate = renewed.map_err(|why| Status::permission_denied(why.to_string()))?;
        tracing::info!(kind = "agent-renewed", "agent {name} has renewed its certificate");
        let authority = self.authority.certificate().to_owned();
        Ok(Response::new(wire::Certificate { certificate, authority }))
    }

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = Peer::of(&request);
        let address = peer.address();
        match &peer {
            Peer::Unknown(_) => {
                let why = "show a certificate: tandem-agent enroll --token TOKEN";
                self.limits
                    .warn(address, Subject::Admission, || "agent refused: it shows no certificate".into());
                return Err(Status::unauthenticated(why));
            }
            Peer::Refused(why) => return Err(Status::permission_denied(why.clone())),
            // The certificate may have been revoked since the connection was opened.
            Peer::Certified(name, serial, _) => self.authority.admits(name, serial).map_err(|why| {
                self.limits.warn(address, Subject::Admission, || format!("agent refused: {why}"));
                Status::permission_denied(why.to_string())
            })?,
            Peer::Local => {}
        }
        let mut inbox = request.into_inner();
        let first = tokio::time::timeout(HANDSHAKE, inbox.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(wire::from_agent::Message::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message is a hello"));
        };
        let hello = bounds::hello(hello).map_err(|why| {
            self.limits.warn(address, Subject::Admission, || format!("agent refused: {why}"));
            Status::invalid_argument(why.to_string())
        })?;
        if let Peer::Certified(name, _, _) = &peer
            && *name != hello.name
        {
            let why = format!("its certificate is that of {name:?}, it calls itself {:?}", hello.name);
            self.limits.warn(address, Subject::Admission, || format!("agent refused: {why}"));
            return Err(Status::permission_denied(why));
        }
        let (sender, outbox) = mpsc::channel(ORDERS);
        tokio::spawn(Session::start(self.clone(), peer, hello, sender, inbox));
        Ok(Response::new(ReceiverStream::new(outbox)))
    }
}
