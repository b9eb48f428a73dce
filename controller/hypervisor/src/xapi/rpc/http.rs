//! HTTP/1.1 to one host: persistent connections, with a limit on every wait and on every reply's
//! size.
//!
//! A call is sent once. Only if a persistent connection turns out to be closed before anything was
//! written, it is sent again on a new one. A call that was written without a reply is
//! [`HttpError::Cut`] or [`HttpError::TimedOut`]: whether it was executed is unknown.

use super::tls::{UnknownCertificate, unknown_certificate};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Longer replies are refused: a pool of thousands of VMs needs a tenth of it for its largest one.
pub const MOST: usize = 256 << 20;

/// The most idle connections kept open: one for events, some for calls.
const KEPT: usize = 8;

/// Time-out of connecting and of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(20);

/// The address of a host.
#[derive(Clone)]
pub enum Route {
    /// Without TLS. The password is readable on the wire: for a host on a private network.
    Plain {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// With TLS, for a known certificate.
    Tls {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Verifies the certificate.
        connector: TlsConnector,
    },
    /// A Unix socket: the local end of a tunnel.
    Unix(PathBuf),
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Route::Plain { host, port } => write!(f, "http://{host}:{port}"),
            Route::Tls { host, port, .. } => write!(f, "https://{host}:{port}"),
            Route::Unix(_) => f.write_str("its ssh tunnel"),
        }
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nothing was sent: no process listens there, or there is no route.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing was sent: the host's certificate is unknown.
    #[error(transparent)]
    UnknownCertificate(#[from] UnknownCertificate),
    /// The connection ended before the reply; the call may have been executed.
    #[error("the connection was cut before the answer was complete: {0}")]
    Cut(String),
    /// There was no reply in time; the call may have been executed.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The reply is longer than [`MOST`].
    #[error("an answer of more than {MOST} bytes")]
    TooLong,
    /// The HTTP status is not 200.
    #[error("HTTP status {0}")]
    Status(StatusCode),
}

/// HTTP/1.1 to one host, with persistent connections.
pub struct Http {
    route: Route,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Http {
    /// For a host; does not connect yet.
    pub fn new(route: Route) -> Http {
        Http { route, idle: Mutex::new(Vec::new()) }
    }

    /// The host's address, for people.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Sends a POST, and returns the body of the reply.
    ///
    /// When there is no reply with status 200 in time.
    pub async fn post(
        &self,
        path: &str,
        kind: &str,
        body: String,
        limit: Duration,
    ) -> Result<Bytes, HttpError> {
        let request = self.request(Method::POST, path).header("content-type", kind);
        self.exchange(request.body(Full::new(body.into())), limit).await
    }

    /// Sends a GET, and returns the body of the reply.
    ///
    /// When there is no reply with status 200 in time.
    pub async fn get(&self, path: &str, limit: Duration) -> Result<Bytes, HttpError> {
        self.exchange(self.request(Method::GET, path).body(Full::default()), limit).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let host = match &self.route {
            Route::Plain { host, .. } | Route::Tls { host, .. } => host.as_str(),
            Route::Unix(_) => "localhost",
        };
        let version = concat!("tandem/", env!("CARGO_PKG_VERSION"));
        Request::builder().method(method).uri(path).header("host", host).header("user-agent", version)
    }

    async fn exchange(
        &self,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
        limit: Duration,
    ) -> Result<Bytes, HttpError> {
        let request = request.map_err(|e| HttpError::Unreachable(e.to_string()))?;
        let whole = async {
            let (answer, sender) = self.send(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|e| {
                if e.is::<LengthLimitError>() { HttpError::TooLong } else { HttpError::Cut(e.to_string()) }
            })?;
            if !sender.is_closed() {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < KEPT {
                    idle.push(sender);
                }
            }
            if status == StatusCode::OK { Ok(body.to_bytes()) } else { Err(HttpError::Status(status)) }
        };
        tokio::time::timeout(limit, whole).await.map_err(|_| HttpError::TimedOut(limit))?
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), HttpError> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let new = kept.is_none();
            let mut sender = match kept {
                Some(s) => s,
                None => tokio::time::timeout(CONNECT, self.connect())
                    .await
                    .map_err(|_| HttpError::Unreachable(format!("no connection within {CONNECT:?}")))??,
            };
            if sender.ready().await.is_err() {
                if new {
                    return Err(HttpError::Cut("it was closed at once".to_owned()));
                }
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok((answer, sender)),
                Err(mut error) => match error.take_message() {
                    // Nothing was written: the persistent connection was closed.
                    Some(unsent) if !new => request = unsent,
                    _ => return Err(HttpError::Cut(words(error.error()))),
                },
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let unreachable = |e: std::io::Error| HttpError::Unreachable(e.to_string());
        match &self.route {
            Route::Unix(path) => shake(UnixStream::connect(path).await.map_err(unreachable)?).await,
            Route::Plain { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                let _ = stream.set_nodelay(true);
                shake(stream).await
            }
            Route::Tls { host, port, connector } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                let _ = stream.set_nodelay(true);
                // The name is not verified: the certificate as a whole is known.
                let name = ServerName::try_from(host.clone())
                    .or_else(|_| ServerName::try_from("xapi"))
                    .map_err(|e| HttpError::Unreachable(e.to_string()))?;
                match connector.connect(name, stream).await {
                    Ok(stream) => shake(stream).await,
                    Err(error) => match unknown_certificate(&error) {
                        Some(why) => Err(why.into()),
                        None => Err(HttpError::Unreachable(format!(
                            "TLS: {error}; a host that is too old for TLS 1.2 is reached by `ssh`"
                        ))),
                    },
                }
            }
        }
    }
}

async fn shake<T, B>(stream: T) -> Result<SendRequest<B>, HttpError>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| HttpError::Unreachable(words(&e)))?;
    // Ends when the sender is dropped or the host closes.
    tokio::spawn(connection);
    Ok(sender)
}

/// An error with its causes, which hyper's own text leaves out.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    text
}
