//! A small HTTP client for the API, over a Unix socket or loopback TCP.

use crate::api::ErrorBody;
use crate::http::guard::WRITE_HEADER;
use crate::openflow_server::Address;
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tandem_agent_protocol::local_peers::check_server;
use tandem_model::text::escaped_to;
use tokio::net::{TcpStream, UnixStream};

/// Characters of an error that are shown.
const ERROR: usize = 4000;

/// Speaks to one API.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    token: Option<String>,
}

/// An answer: its body, and the snapshot's version if it has one.
#[derive(Debug, Clone)]
pub struct Reply {
    /// JSON, or `null` where there is none.
    pub body: serde_json::Value,
    /// `tandem-version`.
    pub version: Option<u64>,
}

impl Client {
    /// A client of the API at `address`.
    pub fn new(address: Address) -> Client {
        Client { address, token: None }
    }

    /// The same with a token.
    pub fn with_token(self, token: Option<String>) -> Client {
        Client { token, ..self }
    }

    /// Asks.
    ///
    /// # Errors
    /// When nobody listens there, or with the API's own words.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<Reply> {
        let unreachable = || {
            format!(
                "no controller answers at {}; start it with `tandem serve`, or say where it is with --api",
                self.address
            )
        };
        match &self.address {
            Address::Tcp(a) => {
                let stream = TcpStream::connect(a).await.with_context(unreachable)?;
                self.over(TokioIo::new(stream), method, path, body).await
            }
            Address::Unix(p) => {
                let stream = UnixStream::connect(p).await.with_context(unreachable)?;
                check_listener(&stream, p)?;
                self.over(TokioIo::new(stream), method, path, body).await
            }
        }
    }

    async fn over<T>(
        &self,
        io: T,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<Reply>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let host = match &self.address {
            Address::Tcp(a) => a.as_str(),
            Address::Unix(_) => "tandem",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header(WRITE_HEADER, "1")
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await.context("the controller ended the connection")?;
        let status = response.status();
        let version = response.headers().get("tandem-version").and_then(|v| v.to_str().ok()?.parse().ok());
        let bytes = response.into_body().collect().await?.to_bytes();
        let body: serde_json::Value =
            if bytes.is_empty() { serde_json::Value::Null } else { serde_json::from_slice(&bytes)? };
        if !status.is_success() {
            match serde_json::from_value::<ErrorBody>(body) {
                Ok(ErrorBody { rejection: Some(rejection), .. }) => bail!("rejected: {rejection}"),
                Ok(ErrorBody { error, .. }) => bail!("{}", escaped_to(&error, ERROR)),
                Err(_) => bail!("the controller answered {status}"),
            }
        }
        Ok(Reply { body, version })
    }

    /// Reads a list.
    ///
    /// # Errors
    /// As [`Client::call`], and when the answer is not the expected one.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<(T, Option<u64>)> {
        let reply = self.call(Method::GET, path, None).await?;
        let value = serde_json::from_value(reply.body)
            .context("the controller is of another version than this command")?;
        Ok((value, reply.version))
    }
}

/// Nothing is sent to a socket of somebody who only put one where a controller's could be: its listener is root, this user, or whoever
/// owns the folder that it lies in, if nobody else may write there.
fn check_listener(stream: &UnixStream, path: &std::path::Path) -> anyhow::Result<()> {
    let server = stream.peer_cred().context("it is not known who listens there")?.uid();
    let folder = path.parent().and_then(|f| std::fs::metadata(f).ok());
    let owner = folder.filter(|f| f.permissions().mode() & 0o022 == 0).map(|f| f.uid());
    if owner == Some(server) {
        return Ok(());
    }
    check_server(server, None).with_context(|| format!("the API at {}", path.display()))
}

/// A name as one segment of a path (RFC 3986 2.1).
pub(super) fn segment(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let encoded =
        name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
    // A segment of dots would be taken for a step up.
    match name {
        "." | ".." => name.replace('.', "%2E"),
        _ => encoded.collect(),
    }
}
