//! A client of the API, over its Unix socket or loopback TCP: a connection for each request.

use crate::address::Address;
use crate::endpoints::{EVENTS, Request};
use crate::error::ApiError;
use crate::event_stream::EventStream;
use crate::{VERSION_HEADER, WRITE_HEADER};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tandem_model::text::escaped_to;
use tokio::net::{TcpStream, UnixStream};

/// Characters of an error that are shown.
const ERROR: usize = 4000;

/// A client of one API.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    token: Option<String>,
}

/// An answer, and the snapshot's version where it is a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<A> {
    /// What was answered.
    pub body: A,
    /// The snapshot's version; [`Request::after`] waits for a newer one.
    pub version: Option<u64>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No controller listens there.
    #[error(
        "no controller answers at {address}; start it with `tandem serve`, or say where it is with --api"
    )]
    Unreachable {
        /// The address.
        address: Address,
        /// The system's error.
        source: std::io::Error,
    },
    /// A process of a user who is not trusted listens there; nothing was sent.
    #[error(
        "the API at {path}: the service at the other end is user {user}'s, not yours or root's; nothing was sent to it"
    )]
    NotTrusted {
        /// The socket.
        path: String,
        /// Its user.
        user: u32,
    },
    /// The request cannot be encoded.
    #[error("the request cannot be sent")]
    Unsendable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection ended before the reply.
    #[error("the controller ended the connection")]
    Ended(#[source] hyper::Error),
    /// The reply is an error.
    #[error("{}", shown(.0))]
    Refused(Box<ApiError>),
    /// The reply is an error without a reason.
    #[error("the controller answered {0}")]
    Status(StatusCode),
    /// The reply has an unexpected form.
    #[error("the controller is of another version than this command")]
    OtherVersion(#[source] serde_json::Error),
    /// An event of the stream does not end.
    #[error("the controller sends an event that is longer than any; is it a controller?")]
    EventTooLong,
}

/// The text of an error. It may contain text of others, which is escaped.
fn shown(error: &ApiError) -> String {
    match &error.rejection {
        Some(rejection) => format!("rejected: {rejection}"),
        None => escaped_to(&error.error, ERROR).to_string(),
    }
}

impl Client {
    /// A client of the API at `address`.
    pub fn new(address: Address) -> Client {
        Client { address, token: None }
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Client {
        Client { token, ..self }
    }

    /// Sends a request, and waits for its reply.
    ///
    /// When no controller listens there, when the API refuses, or when the reply has an unexpected
    /// form.
    pub async fn send<A: DeserializeOwned>(&self, request: Request<A>) -> Result<Reply<A>, ClientError> {
        let response = self.open(request).await?;
        let version = response.headers().get(VERSION_HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let bytes = response.into_body().collect().await.map_err(ClientError::Ended)?.to_bytes();
        // An empty body is read as `null`.
        let text = if bytes.is_empty() { b"null" } else { &bytes[..] };
        let body = serde_json::from_slice(text).map_err(ClientError::OtherVersion)?;
        Ok(Reply { body, version })
    }

    /// Follows what changes: the events after the one with the number `after` (0: all that the
    /// controller still has; `None`: only those to come), and, with `follow`, those to come.
    ///
    /// When no controller listens there, or the API refuses.
    pub async fn events(&self, after: Option<u64>, follow: bool) -> Result<EventStream, ClientError> {
        let mut request = EVENTS.request().query("follow", follow);
        if let Some(after) = after {
            request = request.query("after", after);
        }
        Ok(EventStream::new(self.open(request).await?.into_body()))
    }

    /// Sends a request; returns a successful reply before its body was read.
    async fn open<A>(&self, request: Request<A>) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { address: self.address.clone(), source };
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                self.over(TokioIo::new(stream), request).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                let server = stream.peer_cred().map_err(unreachable)?.uid();
                if !is_trusted(server, path) {
                    return Err(ClientError::NotTrusted { path: path.display().to_string(), user: server });
                }
                self.over(TokioIo::new(stream), request).await
            }
        }
    }

    async fn over<T, A>(&self, io: T, request: Request<A>) -> Result<Response<Incoming>, ClientError>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(io).await.map_err(ClientError::Ended)?;
        // It ends with the reply, since the sender does.
        tokio::spawn(connection);
        let response = sender.send_request(self.written(request)?).await.map_err(ClientError::Ended)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await.map_err(ClientError::Ended)?.to_bytes();
        let refused = serde_json::from_slice(&bytes).map(|e| ClientError::Refused(Box::new(e)));
        Err(refused.unwrap_or(ClientError::Status(status)))
    }

    /// A request as it goes over the wire.
    fn written<A>(&self, request: Request<A>) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        let body = request.body.transpose().map_err(|e| ClientError::Unsendable(e.into()))?;
        let host = match &self.address {
            Address::Tcp(address) => address.as_str(),
            Address::Unix(_) => "tandem",
        };
        let mut head = hyper::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header("host", host)
            .header(WRITE_HEADER, "1")
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            head = head.header("authorization", format!("Bearer {token}"));
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        head.body(body).map_err(|e| ClientError::Unsendable(e.into()))
    }
}

/// Nothing is sent to a socket that another user has put in the place of a controller's: its
/// listener has to be root, this user, or the owner of the socket's folder, if nobody else may
/// write there.
fn is_trusted(server: u32, path: &Path) -> bool {
    let folder = path.parent().and_then(|f| std::fs::metadata(f).ok());
    let owner = folder.filter(|f| f.permissions().mode() & 0o022 == 0).map(|f| f.uid());
    server == 0 || server == rustix::process::geteuid().as_raw() || owner == Some(server)
}
