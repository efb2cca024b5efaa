//! The routes of a console, and what every request goes through before and after them.
//!
//! ```text
//! request ─► headers of safety ─► count ─► host ─┬─► page
//!                                                └─► /api: body limit ─► who asks ─► not by another page ─► handler
//! ```

use crate::access::Role;
use crate::auth::{Identity, Refusal};
use crate::shared::Shared;
use crate::{api, page, stream};
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use peakdesk_log::group::wall_ms;
use peakdesk_runtime::config::ConsoleAuth;
use std::net::SocketAddr;
use std::sync::Arc;

/// The page may run and load what comes from here and nothing else; it is in no frame of another page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page of another origin cannot send it without asking first, which nobody answers.
const OWN_HEADER: &str = "x-peakdesk";

/// What is sent to the console is short.
const BODY_BYTES_MAX: usize = 16 << 10;

/// The routes: to be merged into the server of the process.
pub fn router(shared: Arc<Shared>) -> Router {
    router_with(shared, Router::new())
}

/// The same, with more routes that only an admin of all shops may ask.
pub fn router_with(shared: Arc<Shared>, for_admins: Router) -> Router {
    let for_admins = for_admins.layer(middleware::from_fn(admins_only)).with_state(());
    let known = Router::new()
        .route("/api/me", get(api::me))
        .route("/api/shops", get(api::shops))
        .route("/api/shops/{shop}", get(api::shop))
        .route("/api/shops/{shop}/curve", get(api::curve))
        .route("/api/shops/{shop}/agents", get(api::agents))
        .route("/api/shops/{shop}/agents/{agent}", get(api::agent))
        .route("/api/alerts", get(api::alerts))
        .route("/api/alerts/{alert_id}/acknowledge", post(api::acknowledge).delete(api::take_back))
        .route("/api/events", get(stream::events))
        .merge(for_admins)
        .layer(middleware::from_fn_with_state(shared.clone(), identify));
    Router::new()
        .route("/api/openapi.json", get(api::openapi))
        .route("/api/login", post(api::login))
        .route("/api/logout", post(api::logout))
        .merge(known)
        .method_not_allowed_fallback(|| async { api::fail(StatusCode::METHOD_NOT_ALLOWED, "this address knows no such method") })
        .fallback(page::file)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), around))
        .with_state(shared)
}

/// Counts a request, and gives its answer the headers that every answer has.
async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_api = request.uri().path().starts_with("/api/");
    let mut response = match shared.auth.admits(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(&shared, refusal),
    };
    let route = route.as_deref().unwrap_or(if is_api { "(unknown)" } else { "(page)" });
    shared
        .metrics
        .requests
        .with_label_values(&[route, response.status().as_str()])
        .inc();
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    if is_api {
        set(header::CACHE_CONTROL, "no-store");
    }
    response
}

/// Finds out who asks, and that no page of another origin does it in the user's name.
async fn identify(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = match shared.auth.identify(peer.ip(), request.headers(), wall_ms()) {
        Ok(identity) => identity,
        Err(refusal) => return refuse(&shared, refusal),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) && is_foreign(request.headers()) {
        return refuse_foreign(&shared);
    }
    if identity.user.role().is_none() {
        shared.metrics.refused.with_label_values(&["role"]).inc();
        return api::fail(StatusCode::FORBIDDEN, "you are known, but no role is granted to you here");
    }
    // Streams wait by themselves, and who asks is known in any case.
    if !shared.is_loaded() && !matches!(request.uri().path(), "/api/me" | "/api/events") {
        let mut response = api::fail(StatusCode::SERVICE_UNAVAILABLE, "the console is still reading; try again");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    request.extensions_mut().insert::<Identity>(identity);
    next.run(request).await
}

/// The answer to a change that may have been asked for by a page of another origin.
pub fn refuse_foreign(shared: &Shared) -> Response {
    shared.metrics.refused.with_label_values(&["origin"]).inc();
    api::fail(
        StatusCode::FORBIDDEN,
        "changes need the header X-Peakdesk: 1, and come from this origin",
    )
}

/// Refuses everybody but an admin of all shops; [`identify`] goes before it.
async fn admins_only(Extension(identity): Extension<Identity>, request: Request, next: Next) -> Response {
    if identity.user.role() == Some(Role::Admin) && identity.user.sees_all() {
        return next.run(request).await;
    }
    api::fail(StatusCode::FORBIDDEN, "only an admin of all shops may ask this")
}

/// Whether a request may have been made by a page of another origin.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.get(OWN_HEADER).is_none_or(|value| value != "1") {
        return true;
    }
    let origin = text(&header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    // A proxy may have changed the host; where a browser says that the origin is ours, that settles it.
    let same_site = headers.get("sec-fetch-site").is_some_and(|value| value == "same-origin");
    origin.is_some_and(|origin| Some(origin) != text(&header::HOST)) && !same_site
}

/// The answer to somebody who is refused.
pub fn refuse(shared: &Shared, refusal: Refusal) -> Response {
    let (reason, mut response) = match refusal {
        Refusal::Unknown => {
            let how = match shared.auth.mode() {
                ConsoleAuth::Proxy => "the proxy did not say who you are",
                _ => "log in, or send Authorization: Bearer TOKEN",
            };
            ("unknown", api::fail(StatusCode::UNAUTHORIZED, how))
        }
        Refusal::TooMany { .. } => (
            "too_many",
            api::fail(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from your address; wait"),
        ),
        Refusal::Host => (
            "host",
            api::fail(
                StatusCode::FORBIDDEN,
                "without authentication the console answers to localhost and loopback addresses only",
            ),
        ),
        Refusal::NotProxy => ("not_proxy", api::fail(StatusCode::FORBIDDEN, "come through the proxy")),
    };
    shared.metrics.refused.with_label_values(&[reason]).inc();
    match refusal {
        Refusal::Unknown => {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"peakdesk\""));
        }
        Refusal::TooMany { retry_after_s } => {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        Refusal::Host | Refusal::NotProxy => {}
    }
    response.into_response()
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
