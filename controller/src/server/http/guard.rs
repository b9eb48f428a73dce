//! Who may ask what, decided before any route sees a request.
//!
//! A browser sends requests to local addresses for any page that it shows. So the `Host` must be a
//! name of ours (a page whose own name was made to point here, DNS rebinding, has another), an
//! `Origin` must be the same (another page has another), and whatever changes something needs the
//! header [`WRITE_HEADER`], which no form and no simple cross-site request can have (Fetch
//! standard, 2.2.2). Over TCP, where any local user can connect, nothing is changed without a
//! token.

use super::respond::Failure;
use crate::store::tokens::Tokens;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tandem_api::{ApiError, Code, WRITE_HEADER};
use tandem_model::text::escaped;

/// The port of a `Host` that has none (RFC 9110 4.2.1).
const HTTP: u16 = 80;

/// A name that clients may call us by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// A name or an address; IPv6 in brackets.
    pub name: String,
    /// Only with this port; any if left out.
    pub port: Option<u16>,
}

impl std::str::FromStr for HostName {
    type Err = String;
    fn from_str(text: &str) -> Result<HostName, String> {
        let (name, port) =
            split(text).ok_or_else(|| format!("{text:?} is no host; write NAME or NAME:PORT"))?;
        Ok(HostName { name: name.to_ascii_lowercase(), port })
    }
}

/// A host's name and port; `None` when it is none.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let plain = |name: &str| {
        !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
    };
    let port = |text: &str| (text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten();
    let (name, number) = match host.strip_prefix('[') {
        Some(rest) => {
            let (_, after) = rest.split_once(']')?;
            let name = host.get(..host.len() - after.len())?;
            match after.strip_prefix(':') {
                Some(digits) => (name, Some(port(digits)?)),
                None if after.is_empty() => (name, None),
                None => return None,
            }
        }
        None => match host.split_once(':') {
            Some((name, digits)) => (name, Some(port(digits)?)),
            None => (host, None),
        },
    };
    plain(name).then_some((name, number))
}

/// What one listener lets through.
#[derive(Debug, Clone)]
pub struct Guard {
    names: Arc<Vec<HostName>>,
    /// On a Unix socket: who is at the other end was asked of the kernel.
    local: bool,
    tokens: Tokens,
}

/// Where a request came in, for endpoints that are for the controller's own machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Local(bool);

/// An endpoint that has this is there over the Unix socket only.
#[derive(Debug, Clone, Copy)]
pub struct OverUnixSocket;

impl<S: Send + Sync> FromRequestParts<S> for OverUnixSocket {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        if parts.extensions.get() == Some(&Local(true)) {
            return Ok(OverUnixSocket);
        }
        let why = "tokens are made, listed and revoked over the controller's Unix socket only";
        Err(ApiError::forbidden(why).into())
    }
}

impl Guard {
    /// Of a Unix socket. `more` are names of a proxy before it.
    pub fn of_unix(more: &[HostName], tokens: Tokens) -> Guard {
        let own = ["tandem", "localhost"].map(|name| HostName { name: name.to_owned(), port: None });
        Guard { names: Arc::new(own.into_iter().chain(more.iter().cloned()).collect()), local: true, tokens }
    }

    /// Of a TCP socket that listens at `address`.
    pub fn of_tcp(address: SocketAddr, more: &[HostName], tokens: Tokens) -> Guard {
        let own = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = Some(address.port());
        let own = ["localhost", "127.0.0.1", "[::1]", &own].map(|n| HostName { name: n.to_owned(), port });
        Guard { names: Arc::new(own.into_iter().chain(more.iter().cloned()).collect()), local: false, tokens }
    }

    /// Decides on a request.
    ///
    /// # Errors
    /// With the answer that it gets instead.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        let host = self.host(uri, headers)?;
        same_origin(&host, headers)?;
        let writes = method != Method::GET && method != Method::HEAD;
        if writes && one(headers, WRITE_HEADER) != Some("1") {
            return Err(forbidden(format!(
                "whatever changes something needs the header `{WRITE_HEADER}: 1`, so that no web page can do it; `tandem` sends it"
            )));
        }
        self.token(writes, headers)
    }

    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, Failure> {
        let Some(host) = one(headers, HOST.as_str()) else {
            let why = "a request needs one Host header (RFC 9112 3.2), which names this controller";
            return Err(ApiError::invalid(why).into());
        };
        let host = host.to_ascii_lowercase();
        let known = split(&host).is_some_and(|(name, port)| {
            self.names.iter().any(|n| n.name == name && n.port.is_none_or(|p| p == port.unwrap_or(HTTP)))
        });
        let same = uri.authority().is_none_or(|a| a.as_str().eq_ignore_ascii_case(&host));
        if !known || !same {
            let names: Vec<String> = self.names.iter().map(shown).collect();
            return Err(forbidden(format!(
                "{:?} is no name of this controller, which is called {}; more names can be given with `tandem serve --api-host`",
                escaped(&host).to_string(),
                names.join(", ")
            )));
        }
        Ok(host)
    }

    fn token(&self, writes: bool, headers: &HeaderMap) -> Result<(), Failure> {
        let ask_for_one = |text: String| Failure::from(ApiError::new(Code::Unauthorized, text));
        if !headers.contains_key(AUTHORIZATION) {
            if self.local || !writes {
                return Ok(());
            }
            return Err(ask_for_one(
                "over TCP things can only be read without a token; make one on the controller's machine (tandem token create NAME) \
                 and send it as `Authorization: Bearer TOKEN`, or use the Unix socket"
                    .to_owned(),
            ));
        }
        let given = one(headers, AUTHORIZATION.as_str()).and_then(|v| v.split_once(' '));
        let Some((_, secret)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(ask_for_one("write one `Authorization: Bearer TOKEN`".to_owned()));
        };
        let token = self.tokens.check(secret.trim()).map_err(|why| ask_for_one(why.to_string()))?;
        if writes && token.read_only {
            return Err(forbidden(format!(
                "the token {:?} may only read; make another without --read-only",
                token.name
            )));
        }
        Ok(())
    }
}

fn forbidden(why: impl Into<String>) -> Failure {
    ApiError::forbidden(why).into()
}

fn shown(name: &HostName) -> String {
    name.port.map_or_else(|| name.name.clone(), |port| format!("{}:{port}", name.name))
}

/// A header that is there once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// No page of another origin.
fn same_origin(host: &str, headers: &HeaderMap) -> Result<(), Failure> {
    let foreign = |what: &str| {
        let why = format!(
            "this request comes from a page of another site ({what}), and pages of other sites may ask nothing here"
        );
        Err(forbidden(why))
    };
    if headers.contains_key(ORIGIN) {
        let origin = one(headers, ORIGIN.as_str()).unwrap_or_default();
        let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !of.is_some_and(|o| o.eq_ignore_ascii_case(host)) {
            return foreign(&format!("Origin: {}", escaped(origin)));
        }
    }
    // Fetch metadata: `none` is somebody who typed the address.
    if headers.contains_key("sec-fetch-site") {
        let site = one(headers, "sec-fetch-site").unwrap_or_default();
        if site != "same-origin" && site != "none" {
            return foreign(&format!("Sec-Fetch-Site: {}", escaped(site)));
        }
    }
    Ok(())
}

/// The guard before all routes.
pub async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    match guard.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => {
            request.extensions_mut().insert(Local(guard.local));
            next.run(request).await
        }
        Err(refused) => {
            let mut answer = refused.into_response();
            if answer.status() == StatusCode::UNAUTHORIZED {
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            answer
        }
    }
}
