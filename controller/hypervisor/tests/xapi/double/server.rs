//! The double's HTTP server: two hosts of a pool on two loopback addresses, at one port; plain, or
//! with a self-signed certificate.

use super::dispatch::{Outcome, dispatch, rrd};
use super::model::State;
use super::{Double, MASTER, SLAVE, Shared, lock, wire};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_stream::{Stream, StreamExt};

/// The pools of this process, by port: a VM can be sent from one to another.
static POOLS: Mutex<BTreeMap<u16, Weak<Shared>>> = Mutex::new(BTreeMap::new());

/// The pool in a reply of `host.migrate_receive`.
pub(crate) fn of(dest: &Value) -> Option<Arc<Shared>> {
    let uri: hyper::Uri = dest.get("xenops")?.as_str()?.parse().ok()?;
    lock(&POOLS).get(&uri.port_u16()?)?.upgrade()
}

async fn listeners() -> [TcpListener; 2] {
    // Looks for a port that is free on both addresses.
    loop {
        let first = TcpListener::bind((MASTER, 0)).await.expect("loopback");
        let port = first.local_addr().expect("bound").port();
        if let Ok(second) = TcpListener::bind((SLAVE, port)).await {
            return [first, second];
        }
    }
}

pub(crate) async fn start(state: State, tls: bool) -> Double {
    let listeners = listeners().await;
    let port = listeners[0].local_addr().expect("bound").port();
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: watch::channel(0).0,
        scripts: Mutex::default(),
        heard: Mutex::default(),
        released: watch::channel(false).0,
        port,
    });
    lock(&POOLS).insert(port, Arc::downgrade(&shared));
    let (acceptor, fingerprint) = if tls { certificate() } else { (None, None) };
    let mut tasks = JoinSet::new();
    for (listener, address) in listeners.into_iter().zip([MASTER, SLAVE]) {
        tasks.spawn(accept(listener, address, shared.clone(), acceptor.clone()));
    }
    Double { shared, fingerprint, port, _tasks: tasks }
}

fn certificate() -> (Option<TlsAcceptor>, Option<[u8; 32]>) {
    let made = rcgen::generate_simple_self_signed(vec!["xcp1".to_owned()]).expect("a certificate");
    let der = made.cert.der().clone();
    let digest = ring::digest::digest(&ring::digest::SHA256, &der);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![der], key)
        .expect("a key for it");
    (Some(TlsAcceptor::from(Arc::new(config))), Some(digest.as_ref().try_into().expect("32 bytes")))
}

async fn accept(
    listener: TcpListener,
    address: &'static str,
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
) {
    // Connections end with the double.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, address, shared.clone(), acceptor.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, address: &'static str, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) {
    let service = service_fn(|request| handle(shared.clone(), address, request));
    let server = hyper::server::conn::http1::Builder::new();
    // Errors of a connection are the client's.
    let _ = match acceptor {
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
        None => server.serve_connection(TokioIo::new(stream), service).await,
    };
}

type Body = BoxBody<Bytes, Error>;

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// The first half of a reply with the full Content-Length, and then a cut.
fn half(text: String) -> Response<Body> {
    let length = text.len();
    let bytes = Bytes::from(text).slice(..length / 2);
    let frames =
        tokio_stream::iter([Ok(Frame::data(bytes)), Err(Error::new(ErrorKind::ConnectionReset, "cut"))]);
    // The pause lets the first half be sent.
    let frames = frames.then(|frame| async {
        if frame.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        frame
    });
    let body = BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(frames)))));
    Response::builder().header("content-length", length).body(body).expect("a response")
}

/// A body must be `Sync`, a future need not be.
struct SyncStream<S>(Mutex<Pin<Box<S>>>);

impl<S: Stream> Stream for SyncStream<S> {
    type Item = S::Item;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        lock(&self.get_mut().0).as_mut().poll_next(cx)
    }
}

async fn handle(
    shared: Arc<Shared>,
    address: &'static str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if request.method() == Method::GET {
        if path != "/rrd_updates" {
            return Ok(plain(StatusCode::NOT_FOUND, String::new()));
        }
        return Ok(match shared.with(|s| rrd(s, address, &query)) {
            Ok(text) => plain(StatusCode::OK, text),
            Err(_) => plain(StatusCode::UNAUTHORIZED, String::new()),
        });
    }
    let json = shared.with(|s| s.json);
    let is_json = path == "/jsonrpc" && json;
    if !is_json && path != "/" && path != "/RPC2" {
        return Ok(plain(StatusCode::NOT_FOUND, "<html>no such page</html>".to_owned()));
    }
    let body = request.into_body().collect().await.map_err(Error::other)?.to_bytes();
    let call = if is_json { wire::read_json(&body) } else { wire::read_xml(&body) };
    let Some(call) = call else { return Ok(plain(StatusCode::BAD_REQUEST, String::new())) };
    let id = call.id.clone();
    let write = |a: &_| if is_json { wire::write_json(&id, a) } else { wire::write_xml(a) };
    match dispatch(&shared, address, call).await {
        Outcome::Answer(answer) => {
            let mut response = plain(StatusCode::OK, write(&answer));
            let kind = if is_json { "application/json" } else { "text/xml" };
            response.headers_mut().insert("content-type", kind.parse().expect("a header"));
            Ok(response)
        }
        Outcome::Half(answer) => Ok(half(write(&answer))),
        Outcome::Nothing => Err(Error::new(ErrorKind::ConnectionReset, "cut")),
    }
}
