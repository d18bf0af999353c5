//! Who may ask, and what a browser may do with the answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::error::Problem;

/// How closed the server is.
#[derive(Clone, Copy, Debug)]
pub struct Security {
    /// It listens on loopback, so the only true names of this host are `localhost`, `127.0.0.1` and `[::1]`: any other
    /// `Host` is a page of some other site whose name was made to resolve to this machine.
    pub loopback_only: bool,
}

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Sets the headers that every answer has.
pub async fn headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Refuses unknown hosts on loopback, and unsafe methods that another site's page sends. A script sends no `Origin`.
pub async fn guard(State(security): State<Security>, request: Request, next: Next) -> Result<Response, Problem> {
    let host = host(&request);
    if security.loopback_only && !host.is_some_and(is_loopback) {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This server answers to localhost, 127.0.0.1 and [::1] alone.",
        ));
    }
    let origin = request.headers().get(header::ORIGIN);
    if !is_safe(request.method()) && origin.is_some_and(|origin| !same_origin(origin, host)) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "A page of another site may not change anything here."));
    }
    Ok(next.run(request).await)
}

fn host(request: &Request) -> Option<&str> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| request.uri().authority().map(|authority| authority.as_str()))
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(name) => name.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => name.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn same_origin(origin: &HeaderValue, host: Option<&str>) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_few_names() {
        for host in ["localhost", "LOCALHOST:3000", "127.0.0.1:80", "[::1]", "[::1]:3000", "127.0.0.2:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "::1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_ours_if_it_names_our_host() {
        let ours = |origin| same_origin(&HeaderValue::from_static(origin), Some("localhost:3000"));
        assert!(ours("http://localhost:3000"));
        assert!(!ours("http://localhost:4000") && !ours("https://evil.example") && !ours("null"));
    }
}
