//! The answers as JSON; `openapi.json` describes them, and a test holds the two together.
//!
//! What somebody may not see is answered like what is not there (404); what a role may not ask for at all, or not do to what it
//! sees, is refused (403).

use crate::access::{Role, User};
use crate::acknowledge::Written;
use crate::auth::{Identity, Refusal};
use crate::book::{Acknowledgement, Alert, Place};
use crate::route::{is_foreign, refuse, refuse_foreign};
use crate::shared::Shared;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use peakdesk_log::group::wall_ms;
use peakdesk_model::alert::{Rule, Severity};
use peakdesk_runtime::config::ConsoleAuth;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The description of all this.
const OPENAPI: &str = include_str!("../openapi.json");

const CURVE_HOURS_MAX: i64 = 48;
const ALERTS_LIMIT: usize = 200;
const ALERTS_LIMIT_MAX: usize = 1_000;
/// Alerts beside an agent's figures.
const AGENT_ALERTS: usize = 100;
const NOTE_CHARS_MAX: usize = 500;
/// How long the broker and our own reading may take together.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);

type Caller = Extension<Identity>;
type Answer = Result<Response, Response>;

/// An answer that says what is wrong.
pub fn fail(status: StatusCode, words: &str) -> Response {
    let body = serde_json::json!({ "error": words }).to_string();
    let mut response = json(body);
    *response.status_mut() = status;
    response
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn missing() -> Response {
    fail(StatusCode::NOT_FOUND, "there is no such thing, or it is not yours to see")
}

fn not_for_agents() -> Response {
    fail(StatusCode::FORBIDDEN, "an agent sees only its own figures")
}

fn bad(words: &str) -> Response {
    fail(StatusCode::BAD_REQUEST, words)
}

fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Response> {
    path.map(|Path(value)| value).map_err(|error| bad(&error.body_text()))
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Response> {
    query.map(|Query(value)| value).map_err(|error| bad(&error.body_text()))
}

/// Reads a JSON body that says that it is one.
fn body<T: DeserializeOwned>(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<T, Response> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(fail(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
    }
    let body = body.map_err(|error| fail(error.status(), "the body is too long or broke off"))?;
    // A list would do for a struct otherwise.
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body).map_err(|error| bad(&error.to_string()))?;
    T::deserialize(serde_json::Value::Object(object)).map_err(|error| bad(&error.to_string()))
}

/// Whatever is not an agent's business.
fn staff(user: &User) -> Result<(), Response> {
    match user.role() {
        Some(Role::Agent) | None => Err(not_for_agents()),
        Some(_) => Ok(()),
    }
}

/// `{"NAME":[ITEMS],…REST}`.
fn list<'a>(name: &str, items: impl Iterator<Item = &'a str>, rest: &str) -> Response {
    let mut text = format!("{{\"{name}\":[");
    for (n, item) in items.enumerate() {
        text.push_str(if n == 0 { "" } else { "," });
        text.push_str(item);
    }
    text.push(']');
    text.push_str(rest);
    text.push('}');
    json(text)
}

fn wall() -> String {
    format!(",\"wall_ms\":{}", wall_ms())
}

/// `GET /api/openapi.json`
pub async fn openapi() -> Response {
    json(OPENAPI.to_owned())
}

/// `GET /api/me`
pub async fn me(State(shared): State<Arc<Shared>>, Extension(caller): Caller) -> Response {
    let user = &caller.user;
    let body = serde_json::json!({
        "user": user.name,
        "role": user.role(),
        "shops": user.shops(),
        "agent": if user.role() == Some(Role::Agent) { user.agent().map(|(_, agent)| agent) } else { None },
        "locale_default": shared.config.console.locale,
    });
    json(body.to_string())
}

/// `GET /api/shops`
pub async fn shops(State(shared): State<Arc<Shared>>, Extension(caller): Caller) -> Answer {
    staff(&caller.user)?;
    let state = shared.state();
    let seen = state.shops().filter(|event| caller.user.sees_shop(&event.shop));
    Ok(list("shops", seen.map(|event| event.json()), &wall()))
}

/// `GET /api/shops/{shop}`
pub async fn shop(State(shared): State<Arc<Shared>>, Extension(caller): Caller, shop: Result<Path<String>, PathRejection>) -> Answer {
    staff(&caller.user)?;
    let shop = path(shop)?;
    let state = shared.state();
    match state.shop(&shop).filter(|_| caller.user.sees_shop(&shop)) {
        Some(event) => Ok(json([event.json().strip_suffix('}').unwrap_or_default(), &wall(), "}"].concat())),
        None => Err(missing()),
    }
}

/// The query of `GET /api/shops/{shop}/curve`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveQuery {
    hours: Option<i64>,
}

/// `GET /api/shops/{shop}/curve`
pub async fn curve(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Caller,
    shop: Result<Path<String>, PathRejection>,
    asked: Result<Query<CurveQuery>, QueryRejection>,
) -> Answer {
    staff(&caller.user)?;
    let (shop, hours) = (path(shop)?, query(asked)?.hours.unwrap_or(24));
    if !(1..=CURVE_HOURS_MAX).contains(&hours) {
        return Err(bad("hours must be 1 to 48"));
    }
    let state = shared.state();
    let curves = state
        .curves(&shop, hours)
        .filter(|_| caller.user.sees_shop(&shop) && state.shop(&shop).is_some());
    let curves = curves.ok_or_else(missing)?;
    Ok(list("curves", curves.iter().map(|event| event.json()), ""))
}

/// `GET /api/shops/{shop}/agents`
pub async fn agents(State(shared): State<Arc<Shared>>, Extension(caller): Caller, shop: Result<Path<String>, PathRejection>) -> Answer {
    staff(&caller.user)?;
    let shop = path(shop)?;
    let state = shared.state();
    let agents = state
        .agents(&shop)
        .filter(|_| caller.user.sees_shop(&shop) && state.shop(&shop).is_some());
    let agents = agents.ok_or_else(missing)?;
    Ok(list("agents", agents.map(|event| event.json()), &wall()))
}

/// `GET /api/shops/{shop}/agents/{agent}`
pub async fn agent(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Caller,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Answer {
    let (shop, agent) = path(names)?;
    let state = shared.state();
    let found = state.agent(&shop, &agent).filter(|_| caller.user.sees_agent(&shop, &agent));
    let (live, detail) = found.ok_or_else(missing)?;
    let own = |alert: &&Alert| *alert.shop == *shop && alert.agent.as_deref() == Some(&agent);
    let alerts = state.book().newest(None).filter(own).take(AGENT_ALERTS);
    let alerts: Vec<&str> = alerts.filter_map(|alert| Some(state.alert(&alert.id)?.json())).collect();
    Ok(json(format!(
        "{{\"live\":{},\"detail\":{},\"alerts\":[{}],\"sent_wall_ms\":{}{}}}",
        live.json(),
        detail.map_or("null", |event| event.json()),
        alerts.join(","),
        state.sent_wall_ms(&shop).map_or("null".to_owned(), |at| at.to_string()),
        wall()
    )))
}

/// Which alerts.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Which {
    Open,
    Past,
    All,
}

/// The query of `GET /api/alerts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsQuery {
    shop: Option<String>,
    agent: Option<String>,
    rule: Option<Rule>,
    severity: Option<Severity>,
    state: Option<Which>,
    limit: Option<usize>,
    before: Option<String>,
}

impl AlertsQuery {
    fn wants(&self, alert: &Alert) -> bool {
        let which = self.state.unwrap_or(Which::Open);
        let is_open = alert.resolved_at().is_none();
        let state = which == Which::All || is_open == (which == Which::Open);
        let shop = self.shop.as_deref().is_none_or(|shop| *alert.shop == *shop);
        let agent = self.agent.as_deref().is_none_or(|agent| alert.agent.as_deref() == Some(agent));
        let rule = self.rule.is_none_or(|rule| alert.rule == rule);
        state && shop && agent && rule && self.severity.is_none_or(|severity| alert.severity() == severity)
    }
}

/// `FIRED_AT`, or `FIRED_AT-ALERT_ID` as in `next`.
fn place(text: &str) -> Option<Place> {
    let (at, id) = match text.split_once('-') {
        Some((at, id)) if id.len() == 32 => (at, id),
        Some(_) => return None,
        None => (text, ""),
    };
    let is_time = (1..=15).contains(&at.len()) && at.bytes().all(|b| b.is_ascii_digit());
    let is_id = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    Some((at.parse().ok().filter(|_| is_time && is_id)?, id.into()))
}

/// `GET /api/alerts`
pub async fn alerts(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Caller,
    asked: Result<Query<AlertsQuery>, QueryRejection>,
) -> Answer {
    let asked = query(asked)?;
    let limit = asked.limit.unwrap_or(ALERTS_LIMIT);
    if !(1..=ALERTS_LIMIT_MAX).contains(&limit) {
        return Err(bad("limit must be 1 to 1000"));
    }
    let before = match asked.before.as_deref() {
        None => None,
        Some(text) => Some(place(text).ok_or_else(|| bad("before must be a time in ms, or what next said"))?),
    };
    let state = shared.state();
    let seen = |alert: &&Alert| caller.user.sees(&alert.shop, alert.agent.as_deref()) && asked.wants(alert);
    let mut found: Vec<&Alert> = state.book().newest(before.as_ref()).filter(seen).take(limit + 1).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = match found.last() {
        Some(last) if more => format!("\"{}-{}\"", last.fired_at(), last.id),
        _ => "null".to_owned(),
    };
    let texts = found.iter().filter_map(|alert| Some(state.alert(&alert.id)?.json()));
    Ok(list("alerts", texts, &format!(",\"next\":{next}")))
}

/// The body of `POST /api/alerts/{alert_id}/acknowledge`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    #[serde(default)]
    note: String,
}

/// `POST /api/alerts/{alert_id}/acknowledge`
pub async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Caller,
    alert_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Answer {
    let alert_id = path(alert_id)?;
    let Note { note } = body(&headers, bytes)?;
    if note.chars().count() > NOTE_CHARS_MAX || note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(bad("note must be at most 500 characters, without control characters"));
    }
    let acknowledgement = Acknowledgement {
        by: caller.user.name.clone(),
        at_wall_ms: wall_ms(),
        note,
    };
    write(&shared, &caller.user, &alert_id, Some(acknowledgement)).await
}

/// `DELETE /api/alerts/{alert_id}/acknowledge`
pub async fn take_back(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Caller,
    alert_id: Result<Path<String>, PathRejection>,
) -> Answer {
    write(&shared, &caller.user, &path(alert_id)?, None).await
}

/// Writes an acknowledgement, waits until it is read back, and answers with the alert.
async fn write(shared: &Shared, user: &User, alert_id: &str, acknowledgement: Option<Acknowledgement>) -> Answer {
    {
        let state = shared.state();
        let found = state.book().get(alert_id);
        let alert = found
            .filter(|alert| user.sees(&alert.shop, alert.agent.as_deref()))
            .ok_or_else(missing)?;
        if !user.may_acknowledge(&alert.shop) {
            return Err(fail(StatusCode::FORBIDDEN, "only supervisors and admins take on alerts"));
        }
    }
    let count = |outcome: &str| shared.metrics.acknowledgements.with_label_values(&[outcome]).inc();
    let unavailable = |words: &str| {
        count("failed");
        Err(fail(StatusCode::SERVICE_UNAVAILABLE, words))
    };
    let mut read = shared.acknowledgements();
    let Some(written) = shared.outbox.ask(alert_id, acknowledgement) else {
        return unavailable("too many wait to be written; try again");
    };
    let done = async {
        let offset = match written.await {
            Ok(Written::Ok(offset)) => offset,
            Ok(Written::Err(error)) => return Err(error),
            Err(_) => return Err("the console is ending".to_owned()),
        };
        read.wait_for(|at| *at > offset).await.map(drop).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(WRITE_PATIENCE, done).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error, alert_id, "an acknowledgement was not written");
            return unavailable("it is not known whether this was written; look again");
        }
        Err(_) => return unavailable("this takes too long; look again whether it was written"),
    }
    count("written");
    let state = shared.state();
    state.alert(alert_id).map(|event| json(event.json().to_owned())).ok_or_else(missing)
}

/// The body of `POST /api/login`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// `POST /api/login`
pub async fn login(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Answer {
    if shared.auth.mode() != ConsoleAuth::Token {
        return Err(fail(StatusCode::NOT_FOUND, "nobody logs in here"));
    }
    // Only a page of this origin, or no page at all, can send JSON without asking first.
    let Login { token } = body(&headers, bytes)?;
    let now_ms = wall_ms();
    let user = shared.auth.by_token(peer.ip(), &token, now_ms).map_err(|refusal| match refusal {
        Refusal::Unknown => {
            shared.metrics.refused.with_label_values(&["unknown"]).inc();
            fail(StatusCode::UNAUTHORIZED, "nobody has this token")
        }
        other => refuse(&shared, other),
    })?;
    with_cookie(shared.auth.begin(&user, now_ms))
}

/// `POST /api/logout`
pub async fn logout(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Answer {
    if is_foreign(&headers) {
        return Err(refuse_foreign(&shared));
    }
    with_cookie(Some(shared.auth.end()))
}

fn with_cookie(cookie: Option<String>) -> Answer {
    let cookie = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    let cookie = cookie.ok_or_else(|| fail(StatusCode::INTERNAL_SERVER_ERROR, "no session can be begun"))?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}
