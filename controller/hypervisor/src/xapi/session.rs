//! A session with a pool: opened with the host that is the master, renewed when it has ended,
//! closed when it is no longer needed.
//!
//! 1. A host that is not the master names it (HOST_IS_SLAVE); at most `REDIRECTS` such redirects
//!    are followed, with the same known certificates. When the master does not answer, the
//!    configured host is tried, then all others that were learnt ([`Session::learn`]): one of them
//!    is the new master or knows it.
//! 2. At each address JSON-RPC is tried first, and XML-RPC if that is not supported, unless the
//!    configuration chooses one.
//! 3. SESSION_INVALID means that the call was not executed: the session logs in again and repeats
//!    the call, once.
//!
//! [`Session::call`] sends a call once: after a lost connection or a time-out it is unknown whether
//! it was executed, and the caller has to check. Queries, which change nothing, use
//! [`Session::ask`] and are repeated.

use super::config::{Access, Protocol, Transport};
use super::rpc::http::{Http, HttpError, Route};
use super::rpc::{Answer, Failure, Malformed, Value, json, tls, typed, xml};
use super::tunnel::Tunnels;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// The most redirects in a row.
const REDIRECTS: u32 = 3;

/// How often a query is sent when replies are lost.
const ASKED: u32 = 3;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no reply.
    #[error("{route}: {cause}")]
    NoAnswer {
        /// The address.
        route: String,
        /// The reason.
        cause: HttpError,
    },
    /// The reply is malformed.
    #[error("{route}: {cause}")]
    Malformed {
        /// The address.
        route: String,
        /// What is wrong with it.
        cause: Malformed,
    },
    /// XAPI refused it.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// No address leads to the master.
    #[error("no master of the pool answers: {0}")]
    NoMaster(String),
    /// The ssh tunnel cannot be opened.
    #[error("ssh tunnel: {0}")]
    Tunnel(String),
}

impl CallError {
    /// XAPI's error code, if it has replied.
    pub fn code(&self) -> &str {
        match self {
            CallError::Refused(f) => &f.code,
            _ => "",
        }
    }

    /// Whether it is unknown if the call was executed.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, CallError::NoAnswer { cause: HttpError::Cut(_) | HttpError::TimedOut(_), .. })
    }

    /// Whether nothing was sent, as the host is unreachable.
    fn is_unreachable(&self) -> bool {
        matches!(self, CallError::NoAnswer { cause: HttpError::Unreachable(_), .. } | CallError::Tunnel(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Xml,
}

#[derive(Clone)]
struct Live {
    http: Arc<Http>,
    form: Form,
    reference: Arc<str>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Connections by address: they outlive sessions.
    hosts: BTreeMap<String, Arc<Http>>,
    /// The last address of the master.
    master: Option<String>,
    /// Addresses of the pool's hosts.
    learnt: Vec<String>,
}

/// A session with a pool: opened with the first call, and again when the pool has ended it.
pub struct Session {
    access: Access,
    tunnels: Tunnels,
    state: Mutex<State>,
    calls: AtomicU64,
}

impl Session {
    /// For a pool; sends nothing yet.
    pub fn new(access: Access) -> Session {
        Session { tunnels: Tunnels::default(), access, state: Mutex::default(), calls: AtomicU64::new(0) }
    }

    /// The pool's address and login.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Calls a method, with the session before the parameters. Sent once.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, method: &str, params: Vec<Value>) -> Result<Value, CallError> {
        self.call_within(method, params, self.access.limit).await
    }

    /// The same with another time-out.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_within(
        &self,
        method: &str,
        params: Vec<Value>,
        limit: Duration,
    ) -> Result<Value, CallError> {
        let (mut renewals, mut redirects, mut reached) = (0, 0, 0);
        loop {
            let live = self.live().await?;
            let mut all = Vec::with_capacity(params.len() + 1);
            all.push(json!(&*live.reference));
            all.extend(params.iter().cloned());
            match self.exchange(&live.http, live.form, method, &all, limit).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(refused)) if refused.code == "SESSION_INVALID" && renewals < 1 => {
                    renewals += 1;
                    self.forget(&live, None).await;
                }
                Ok(Err(refused)) if refused.code == "HOST_IS_SLAVE" && redirects < REDIRECTS => {
                    redirects += 1;
                    self.forget(&live, Some(refused.arg(0))).await;
                }
                Ok(Err(refused)) => return Err(refused.into()),
                // The master may have failed, and another host may have replaced it.
                Err(error) if error.is_unreachable() && reached < 1 => {
                    reached += 1;
                    self.forget(&live, None).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a query, which changes nothing; repeated when a reply is lost.
    ///
    /// See [`CallError`]; a reply of another type is malformed.
    pub async fn ask<T: DeserializeOwned>(&self, method: &str, params: Vec<Value>) -> Result<T, CallError> {
        let mut asked = 1;
        loop {
            match self.call(method, params.clone()).await {
                Ok(value) => return self.read(value),
                Err(error) if error.is_in_doubt() && asked < ASKED => asked += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Converts a value to a type.
    ///
    /// When it has another type.
    pub fn read<T: DeserializeOwned>(&self, value: Value) -> Result<T, CallError> {
        typed(value).map_err(|source| CallError::Malformed { route: self.access.name.clone(), cause: source })
    }

    /// Gets a document from a host of the pool, not only from the master: `path` without the
    /// session.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn document(&self, address: &str, path: &str) -> Result<hyper::body::Bytes, CallError> {
        let live = self.live().await?;
        let http = self.http(address).await?;
        // References consist of characters that need no escaping in a path.
        let path = format!("{path}&session_id={}", live.reference);
        let got = http.get(&path, self.access.limit).await;
        got.map_err(|source| CallError::NoAnswer { route: http.route().to_string(), cause: source })
    }

    /// Records the addresses of the pool's hosts.
    pub async fn learn(&self, addresses: Vec<String>) {
        self.state.lock().await.learnt = addresses;
    }

    /// Logs out. The next call logs in again.
    pub async fn close(&self) {
        let live = self.state.lock().await.live.take();
        if let Some(live) = live {
            let reference = [json!(&*live.reference)];
            // A session without a logout expires.
            let _ =
                self.exchange(&live.http, live.form, "session.logout", &reference, self.access.limit).await;
        }
    }

    async fn forget(&self, old: &Live, master: Option<&str>) {
        let mut state = self.state.lock().await;
        if state.live.as_ref().is_some_and(|l| l.reference == old.reference) {
            state.live = None;
        }
        state.master = master.map(str::to_owned);
    }

    /// The session, opened if there is none. Callers wait while another one opens it.
    async fn live(&self) -> Result<Live, CallError> {
        let mut state = self.state.lock().await;
        if let Some(live) = &state.live {
            return Ok(live.clone());
        }
        let mut candidates: Vec<String> = state.master.iter().cloned().collect();
        for address in std::iter::once(&self.access.address).chain(&state.learnt) {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        let mut tried = Vec::new();
        let mut refused = None;
        for candidate in candidates {
            match self.log_in(&mut state, candidate.clone()).await {
                Ok(live) => {
                    state.live = Some(live.clone());
                    return Ok(live);
                }
                Err(error) if error.is_unreachable() || error.is_in_doubt() => {
                    tried.push(format!("{candidate}: {error}"));
                }
                // Another host of the pool would answer the same, unless this one does not belong
                // to the pool.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        state.master = None;
        Err(refused.unwrap_or_else(|| CallError::NoMaster(tried.join("; "))))
    }

    async fn log_in(&self, state: &mut State, mut address: String) -> Result<Live, CallError> {
        for _ in 0..=REDIRECTS {
            let http = match state.hosts.get(&address) {
                Some(http) => http.clone(),
                None => {
                    let http = Arc::new(Http::new(self.route(&address).await?));
                    state.hosts.insert(address.clone(), http.clone());
                    http
                }
            };
            let login = [json!(self.access.user), json!(self.access.password), json!("1.0"), json!("tandem")];
            let method = "session.login_with_password";
            let (form, answer) = match self.access.protocol {
                Protocol::JsonRpc => {
                    (Form::Json, self.exchange(&http, Form::Json, method, &login, self.access.limit).await)
                }
                Protocol::XmlRpc => {
                    (Form::Xml, self.exchange(&http, Form::Xml, method, &login, self.access.limit).await)
                }
                Protocol::Auto => {
                    match self.exchange(&http, Form::Json, method, &login, self.access.limit).await {
                        // The protocol is not supported there.
                        Err(
                            CallError::NoAnswer { cause: HttpError::Status(_), .. }
                            | CallError::Malformed { .. },
                        ) => (
                            Form::Xml,
                            self.exchange(&http, Form::Xml, method, &login, self.access.limit).await,
                        ),
                        other => (Form::Json, other),
                    }
                }
            };
            match answer {
                Ok(Ok(value)) => {
                    let reference: String = self.read(value)?;
                    state.master = Some(address);
                    return Ok(Live { http, form, reference: reference.into() });
                }
                Ok(Err(failure)) if failure.code == "HOST_IS_SLAVE" => address = failure.arg(0).to_owned(),
                Ok(Err(failure)) => return Err(failure.into()),
                Err(error) => {
                    // A broken tunnel is opened again the next time.
                    if error.is_unreachable() {
                        state.hosts.remove(&address);
                    }
                    return Err(error);
                }
            }
        }
        Err(CallError::NoMaster(format!("{REDIRECTS} hosts have sent us on, the last one to {address}")))
    }

    async fn http(&self, address: &str) -> Result<Arc<Http>, CallError> {
        let mut state = self.state.lock().await;
        if let Some(http) = state.hosts.get(address) {
            return Ok(http.clone());
        }
        let http = Arc::new(Http::new(self.route(address).await?));
        state.hosts.insert(address.to_owned(), http.clone());
        Ok(http)
    }

    async fn route(&self, address: &str) -> Result<Route, CallError> {
        let (host, port) = (address.to_owned(), self.access.port);
        Ok(match &self.access.transport {
            Transport::Plain => Route::Plain { host, port },
            Transport::Tls(known) => {
                let connector = tls::connector(known).map_err(|e| CallError::NoMaster(e.to_string()))?;
                Route::Tls { host, port, connector }
            }
            Transport::Ssh(ssh) => Route::Unix(self.tunnels.to(ssh, address, port).await?),
        })
    }

    async fn exchange(
        &self,
        http: &Http,
        form: Form,
        method: &str,
        params: &[Value],
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let route = || http.route().to_string();
        let unanswered = |source| CallError::NoAnswer { route: route(), cause: source };
        let malformed = |source| CallError::Malformed { route: route(), cause: source };
        match form {
            Form::Json => {
                let id = self.calls.fetch_add(1, Ordering::Relaxed);
                let call = json::encode_call(id, method, params);
                let body =
                    http.post("/jsonrpc", "application/json", call, limit).await.map_err(unanswered)?;
                json::decode_answer(id, &body).map_err(malformed)
            }
            Form::Xml => {
                let call = xml::encode_call(method, params).map_err(malformed)?;
                let body = http.post("/", "text/xml", call, limit).await.map_err(unanswered)?;
                xml::decode_answer(&body).map_err(malformed)
            }
        }
    }
}

impl Drop for Session {
    /// A session takes few of the master's resources, but there are only some hundred.
    fn drop(&mut self) {
        let Some(live) = self.state.get_mut().live.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let spare = Session::new(self.access.clone());
        runtime.spawn(async move {
            spare.state.lock().await.live = Some(live);
            spare.close().await;
        });
    }
}
