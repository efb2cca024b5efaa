//! The HTTP server of a process: `/metrics`, `/livez`, `/readyz`, and whatever routes a role adds.
//!
//! It goes on answering while the process drains, so that a probe sees a process that is ending, not one that is dead;
//! `/readyz` says no as soon as a shutdown is asked for.

use crate::health::{Health, Report};
use crate::metrics::{self, Metrics};
use crate::patience::{IDLE_PATIENCE, PatientListener, WRITE_PATIENCE};
use crate::shutdown::Shutdown;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the standard routes answer from.
#[derive(Debug, Clone)]
pub struct Probes {
    /// `/metrics`
    pub metrics: Metrics,
    /// `/livez`, `/readyz`
    pub health: Health,
    /// `/readyz`
    pub shutdown: Shutdown,
}

/// The address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}: {error}; choose another http.listen, or an empty one for no server")]
pub struct ListenError {
    listen: SocketAddr,
    error: std::io::Error,
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens and serves on the current tokio runtime. `more` are the routes of the role; they find the peer's address as
    /// `ConnectInfo<SocketAddr>`.
    pub async fn start(listen: SocketAddr, probes: Probes, more: Router) -> Result<Self, ListenError> {
        let failed = |error| ListenError { listen, error };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let router = routes(probes).merge(more).into_make_service_with_connect_info::<SocketAddr>();
        // The wrapper does nothing but bring the peer's address with it.
        let listener = PatientListener::new(listener, WRITE_PATIENCE, IDLE_PATIENCE).tap_io(|_| {});
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "http server ended");
            }
        });
        tracing::info!(address = %local_addr, "serving /metrics, /livez and /readyz");
        Ok(Server { local_addr, task })
    }

    /// Where it listens; the port is a real one even where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a request names this machine as its host, and nothing else: a page elsewhere must not reach what asks for no login by a name of its own.
pub fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    is_loopback_host(host)
}

/// A layer of routes that ask for no login: refuses what is not for this machine.
pub async fn for_this_machine(request: Request, next: Next) -> Response {
    if is_for_this_machine(request.headers()) {
        return next.run(request).await;
    }
    let why = "without authentication this answers to localhost and loopback addresses only\n";
    (StatusCode::FORBIDDEN, why).into_response()
}

/// Whether a `Host` header names this machine and nothing else.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
        Some(_) => return false,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn routes(probes: Probes) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(probes)
}

async fn render_metrics(State(probes): State<Probes>) -> Response {
    match probes.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn live(State(probes): State<Probes>) -> Response {
    answer(probes.health.live())
}

async fn ready(State(probes): State<Probes>) -> Response {
    let mut report = probes.health.ready();
    if probes.shutdown.is_requested() {
        report.add(false, "shutdown", "asked for");
    }
    answer(report)
}

fn answer(report: Report) -> Response {
    let status = if report.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, report.text).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn hosts_of_this_machine_are_known() {
        let is = |host: &str| is_for_this_machine(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:1", "127.8.8.8", "[::1]", "[::1]:9464"] {
            assert!(is(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:9464",
            "[::1]evil",
            "[::2]:1",
        ] {
            assert!(!is(host), "{host}");
        }
        assert!(!is_for_this_machine(&HeaderMap::new()));
    }

    async fn fetch(address: SocketAddr, path: &'static str) -> String {
        let request = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        tokio::task::spawn_blocking(request).await.unwrap()
    }

    #[tokio::test]
    async fn probes_and_metrics_are_served() {
        let probes = Probes {
            metrics: Metrics::new("9").unwrap(),
            health: Health::new(),
            shutdown: Shutdown::new(),
        };
        let heartbeat = probes.health.heartbeat("loop", Duration::from_secs(600));
        let condition = probes.health.condition("broker");
        let more = Router::new().route("/more", get(|| async { "more" }));
        let server = Server::start("127.0.0.1:0".parse().unwrap(), probes.clone(), more).await.unwrap();
        let address = server.local_addr();

        let metrics = fetch(address, "/metrics").await;
        assert!(
            metrics.starts_with("HTTP/1.1 200") && metrics.contains("peakdesk_build_info{version=\"9\"} 1"),
            "{metrics}"
        );
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(fetch(address, "/more").await.ends_with("more"));
        assert!(fetch(address, "/none").await.starts_with("HTTP/1.1 404"));

        condition.set(true);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        probes.shutdown.request();
        let ending = fetch(address, "/readyz").await;
        assert!(
            ending.starts_with("HTTP/1.1 503") && ending.contains("BAD shutdown: asked for"),
            "{ending}"
        );
        drop(heartbeat);
        let dead = fetch(address, "/livez").await;
        assert!(dead.starts_with("HTTP/1.1 503") && dead.contains("BAD loop: gone"), "{dead}");

        let taken = Server::start(address, probes, Router::new()).await.unwrap_err();
        assert!(taken.to_string().contains(&address.to_string()), "{taken}");
    }
}
