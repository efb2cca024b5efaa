//! Requests against the whole router, without Kafka: roles, forms, headers, streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::consume::Source;
use crate::shared::Around;
use crate::state::tests::row;
use axum::Json;
use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use peakdesk_model::alert::{Severity, TransitionKind};
use peakdesk_model::live::{AgentDetail, AgentLive, Curve, LiveKey, ShopLive};
use peakdesk_runtime::config::Config;
use peakdesk_runtime::health::Health;
use peakdesk_runtime::layers::Sources;
use peakdesk_runtime::metrics::Metrics;
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scoring::policy::Policies;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt as _;

const LIMIT: Duration = Duration::from_secs(60);
const PEER: [u8; 4] = [127, 0, 0, 1];

struct Desk {
    shared: Arc<Shared>,
    metrics: Metrics,
    router: Router,
    _users: tempfile::NamedTempFile,
}

impl Desk {
    fn new(sets: &[&str]) -> Desk {
        let users = tempfile::NamedTempFile::new().unwrap();
        let line = |name: &str, rest: &str| {
            let hash = blake3::Hash::from_bytes(*crate::users::TokenHash::of(&token(name)).as_bytes()).to_hex();
            format!("[[user]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n{rest}\n")
        };
        let text = [
            line("admin", "role = \"admin\"\nshops = [\"*\"]"),
            line("supervisor", "role = \"supervisor\"\nshops = [\"s1\"]"),
            line("viewer", "role = \"viewer\"\nshops = [\"s1\"]"),
            line("elsewhere", "role = \"supervisor\"\nshops = [\"s2\"]"),
            line("agent", "role = \"agent\"\nshops = [\"s1\"]\nagent = \"ag\""),
        ];
        std::fs::write(users.path(), text.concat()).unwrap();
        let mut sources = Sources::default();
        sources.sets.push("console.auth=token".into());
        sources.sets.push(format!("console.users_file={}", users.path().display()));
        sources.sets.extend(sets.iter().map(|set| (*set).to_owned()));
        let config = Config::load(&sources).unwrap();
        let (metrics, health) = (Metrics::new("0").unwrap(), Health::new());
        let around = Around {
            metrics: &metrics,
            health: &health,
            shutdown: Shutdown::new(),
        };
        let shared = Arc::new(Shared::new(&config, Policies::default(), &around).unwrap());
        let more = Router::new().route("/api/more", get(|| async { Json(true) }));
        let router = router_with(shared.clone(), more);
        Desk {
            shared,
            metrics,
            router,
            _users: users,
        }
    }

    /// Two shops with an agent each (`ag` and `bg`), and an alert of each kind.
    fn filled(sets: &[&str]) -> Desk {
        let desk = Desk::new(sets);
        for (shop, agents) in [("s1", ["ag", "ah"]), ("s2", ["bg", "bh"])] {
            desk.shop(shop, 5);
            for agent in agents {
                desk.agent(shop, agent, 5);
            }
        }
        {
            let mut state = desk.shared.state();
            state.apply_alert(&row(&id(1), 0, TransitionKind::Firing, Severity::Warning, 1), 0);
            for (n, shop, agent) in [(2, "s1", None), (3, "s2", Some("bg")), (4, "s1", Some("ah"))] {
                let mut other = row(&id(n), 0, TransitionKind::Firing, Severity::Major, i64::from(n));
                other.shop_id = shop.into();
                other.agent_id = agent.map(Into::into);
                state.apply_alert(&other, 0);
            }
        }
        Source::ALL.into_iter().for_each(|source| desk.shared.source_read(source));
        desk
    }

    fn live<T: serde::Serialize>(&self, key: &LiveKey, value: &T) {
        let value = serde_json::to_vec(value).unwrap();
        self.shared.state().apply_live(key.encode().as_bytes(), Some(&value), wall_ms());
    }

    fn shop(&self, shop: &str, at: i64) {
        let live = ShopLive {
            shop_id: shop.into(),
            at,
            ..ShopLive::default()
        };
        self.live(&LiveKey::Shop { shop: shop.into() }, &live);
        let curve = Curve {
            shop_id: shop.into(),
            at,
            ..Curve::default()
        };
        self.live(
            &LiveKey::Curve {
                shop: shop.into(),
                hour: 0,
            },
            &curve,
        );
    }

    fn agent(&self, shop: &str, agent: &str, at: i64) {
        let (s, a) = (shop.to_owned(), agent.to_owned());
        let live = AgentLive {
            shop_id: s.clone(),
            agent_id: a.clone(),
            at,
            ..AgentLive::default()
        };
        self.live(
            &LiveKey::Agent {
                shop: s.clone(),
                agent: a.clone(),
            },
            &live,
        );
        let detail = AgentDetail {
            shop_id: s.clone(),
            agent_id: a.clone(),
            at,
            ..AgentDetail::default()
        };
        self.live(&LiveKey::Detail { shop: s, agent: a }, &detail);
    }

    async fn send(&self, request: Request) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, user: &str, path: &str) -> (StatusCode, Value) {
        read(self.send(request(user, "GET", path, &[], Body::empty())).await).await
    }

    async fn stream(&self, user: &str, path: &str, last_id: Option<&str>) -> Stream {
        let id = last_id.map(|id| ("last-event-id", id));
        let response = self.send(request(user, "GET", path, id.as_slice(), Body::empty())).await;
        assert_eq!(response.status(), StatusCode::OK, "{user} {path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut stream = Stream {
            body: Box::pin(response.into_body().into_data_stream()),
            text: String::new(),
        };
        stream.until(|text| text.contains("\n\n")).await;
        stream
    }

    /// A metric's sample, 0 if there is none.
    fn metric(&self, sample: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
            .map(str::to_owned);
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

struct Stream {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, axum::Error>> + Send>>,
    text: String,
}

impl Stream {
    async fn until(&mut self, met: impl Fn(&str) -> bool) {
        tokio::time::timeout(LIMIT, async {
            while !met(&self.text) {
                let chunk = self.body.next().await.expect("the stream has ended").unwrap();
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        })
        .await
        .unwrap_or_else(|_| panic!("it is still {}", self.text));
    }

    async fn ended(mut self) {
        tokio::time::timeout(LIMIT, async { while self.body.next().await.is_some() {} })
            .await
            .unwrap();
    }

    fn last_id(&self) -> String {
        self.text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("id: "))
            .unwrap()
            .to_owned()
    }

    /// Events but for the greeting, as `kind shop/agent`.
    fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut kind = "";
        for line in self.text.lines() {
            if let Some(event) = line.strip_prefix("event: ") {
                kind = event;
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                let part = |name: &str| data[name].as_str().unwrap_or("-").to_owned();
                events.push(format!("{kind} {}/{}", part("shop_id"), part("agent_id")));
            }
        }
        events
    }
}

fn token(name: &str) -> String {
    format!("the-token-of-{name}")
}

fn id(n: i32) -> String {
    format!("{n:032x}")
}

fn request(user: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request {
    let mut request = axum::http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "desk.example");
    if !user.is_empty() {
        request = request.header("authorization", format!("Bearer {}", token(user)));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((PEER, 9))));
    request
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap()
    };
    (status, value)
}

#[tokio::test]
async fn every_role_at_every_address() {
    let desk = Desk::filled(&[]);
    let users = ["", "admin", "supervisor", "viewer", "elsewhere", "agent"];
    let (one, of_other, of_shop) = (id(1), id(3), id(2));
    for (path, expected) in [
        ("/api/me", [401, 200, 200, 200, 200, 200]),
        ("/api/shops", [401, 200, 200, 200, 200, 403]),
        ("/api/shops/s1", [401, 200, 200, 200, 404, 403]),
        ("/api/shops/s2", [401, 200, 404, 404, 200, 403]),
        ("/api/shops/none", [401, 404, 404, 404, 404, 403]),
        ("/api/shops/s1/curve", [401, 200, 200, 200, 404, 403]),
        ("/api/shops/s2/curve?hours=1", [401, 200, 404, 404, 200, 403]),
        ("/api/shops/none/curve", [401, 404, 404, 404, 404, 403]),
        ("/api/shops/s1/agents", [401, 200, 200, 200, 404, 403]),
        ("/api/shops/none/agents", [401, 404, 404, 404, 404, 403]),
        ("/api/shops/s1/agents/ag", [401, 200, 200, 200, 404, 200]),
        ("/api/shops/s1/agents/ah", [401, 200, 200, 200, 404, 404]),
        ("/api/shops/s1/agents/none", [401, 404, 404, 404, 404, 404]),
        ("/api/shops/s2/agents/bg", [401, 200, 404, 404, 200, 404]),
        ("/api/alerts", [401, 200, 200, 200, 200, 200]),
        ("/api/events?shop=s1", [401, 200, 200, 200, 404, 404]),
        ("/api/events?shop=s1&agent=ag", [401, 200, 200, 200, 404, 200]),
        ("/api/events?shop=s1&agent=ah", [401, 200, 200, 200, 404, 404]),
        ("/api/events?shop=s2", [401, 200, 404, 404, 200, 404]),
        ("/api/events?shop=none", [401, 404, 404, 404, 404, 404]),
        ("/api/events", [401, 200, 200, 200, 200, 200]),
        ("/api/events?agent=ag", [401, 400, 400, 400, 400, 200]),
        ("/api/openapi.json", [200; 6]),
        ("/api/none", [404; 6]),
    ] {
        for (user, expected) in users.into_iter().zip(expected) {
            // What is alone in the agent's stream is told by the agent's own shop and id.
            let expected = if user == "agent" && path == "/api/events?shop=s1" {
                200
            } else {
                expected
            };
            let response = desk.send(request(user, "GET", path, &[], Body::empty())).await;
            assert_eq!(response.status().as_u16(), expected, "{user:?} {path}");
        }
    }
    for (alert, method, expected) in [
        (&of_other, "POST", [401, 503, 404, 404, 503, 404]),
        (&of_shop, "POST", [401, 503, 503, 403, 404, 404]),
        (&one, "POST", [401, 503, 503, 403, 404, 403]),
        (&one, "DELETE", [401, 503, 503, 403, 404, 403]),
        (&id(9), "POST", [401, 404, 404, 404, 404, 404]),
    ] {
        for (user, expected) in users.into_iter().zip(expected) {
            let path = format!("/api/alerts/{alert}/acknowledge");
            let headers = [("x-peakdesk", "1"), ("content-type", "application/json")];
            // Nobody writes here: who may ask is told that it is not known to be written.
            drop(std::mem::replace(
                &mut *desk.shared.requests.lock().unwrap(),
                std::sync::mpsc::channel().1,
            ));
            let response = desk
                .send(request(user, method, &path, &headers, Body::from("{\"note\":\"n\"}")))
                .await;
            assert_eq!(response.status().as_u16(), expected, "{user:?} {method} {alert}");
        }
    }
}

#[tokio::test]
async fn answers_hold_what_the_user_may_see_and_no_more() {
    let desk = Desk::filled(&[]);
    let names = |value: &Value, list: &str, name: &str| -> Vec<String> {
        value[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item[name].as_str().unwrap().to_owned())
            .collect()
    };
    for (user, shops, alerts) in [
        ("admin", &["s1", "s2"][..], &[4, 3, 2, 1][..]),
        ("viewer", &["s1"], &[4, 2, 1]),
        ("elsewhere", &["s2"], &[3]),
    ] {
        assert_eq!(names(&desk.get(user, "/api/shops").await.1, "shops", "shop_id"), shops);
        let seen = names(&desk.get(user, "/api/alerts").await.1, "alerts", "alert_id");
        assert_eq!(seen, alerts.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{user}");
    }
    assert_eq!(
        names(&desk.get("agent", "/api/alerts?state=all").await.1, "alerts", "alert_id"),
        [id(1)]
    );
    assert!(names(&desk.get("agent", "/api/alerts?shop=s2").await.1, "alerts", "alert_id").is_empty());
    let (_, me) = desk.get("agent", "/api/me").await;
    assert_eq!(
        me,
        serde_json::json!({"user":"agent","role":"agent","shops":["s1"],"agent":"ag","locale_default":"zh"})
    );
    let (_, shop) = desk.get("viewer", "/api/shops/s1").await;
    assert_eq!(shop["open_alerts"], serde_json::json!({"warning":1,"major":2,"critical":0}));
    assert!(shop["wall_ms"].as_i64().unwrap() > 0);
    let (_, agent) = desk.get("agent", "/api/shops/s1/agents/ag").await;
    assert_eq!(
        (&agent["live"]["agent_id"], &agent["detail"]["agent_id"]),
        (&"ag".into(), &"ag".into())
    );
    assert_eq!(names(&agent, "alerts", "alert_id"), [id(1)]);
}

#[tokio::test]
async fn alerts_are_filtered_and_paged() {
    let desk = Desk::filled(&[]);
    desk.shared
        .state()
        .apply_alert(&row(&id(1), 1, TransitionKind::Resolved, Severity::Warning, 9), 0);
    for (query, expected) in [
        ("", &[4, 3, 2][..]),
        ("?state=past", &[1]),
        ("?state=all", &[4, 3, 2, 1]),
        ("?shop=s1", &[4, 2]),
        ("?shop=s1&agent=ah", &[4]),
        ("?severity=warning&state=all", &[1]),
        ("?rule=conversion_low&state=all", &[]),
        ("?rule=buyer_waiting&state=all&limit=2", &[4, 3]),
        ("?state=all&before=3", &[2, 1]),
    ] {
        let (status, found) = desk.get("admin", &format!("/api/alerts{query}")).await;
        assert_eq!(status, StatusCode::OK);
        let ids: Vec<&str> = found["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["alert_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, expected.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{query}");
    }
    let (mut pages, mut before) = (Vec::new(), String::new());
    loop {
        let (_, page) = desk.get("admin", &format!("/api/alerts?state=all&limit=3{before}")).await;
        pages.push(page["alerts"].as_array().unwrap().len());
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(pages, [3, 1]);
    for bad in [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?state=no",
        "?rule=no",
        "?severity=no",
        "?before=x",
        "?before=%2B5",
        "?nothing=1",
        "?limit=1&limit=2",
    ] {
        let (status, error) = desk.get("admin", &format!("/api/alerts{bad}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(error["error"].is_string());
    }
    for bad in [
        "/api/shops/s1/curve?hours=0",
        "/api/shops/s1/curve?hours=49",
        "/api/shops/%FF",
        "/api/events?shop=s1&x=1",
    ] {
        assert_eq!(desk.get("admin", bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn changes_come_from_this_origin_in_json() {
    let desk = Desk::filled(&[]);
    let path = format!("/api/alerts/{}/acknowledge", id(1));
    let (own, json) = (("x-peakdesk", "1"), ("content-type", "application/json; charset=utf-8"));
    let long = format!("{{\"note\":\"{}\"}}", "长".repeat(501));
    let huge = format!("{{\"note\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
    for (headers, body, expected) in [
        (&[json][..], "{}", 403),
        (&[("x-peakdesk", "0"), json], "{}", 403),
        (&[own, json, ("origin", "https://evil.example")], "{}", 403),
        (&[own, json, ("origin", "null")], "{}", 403),
        (&[own], "{}", 415),
        (&[own, ("content-type", "text/plain")], "{}", 415),
        (&[own, json], "", 400),
        (&[own, json], "[]", 400),
        (&[own, json], "{\"note\":1}", 400),
        (&[own, json], "{\"nota\":\"\"}", 400),
        (&[own, json], "{\"note\":\"\\u0007\"}", 400),
        (&[own, json], &long, 400),
        (&[own, json], &huge, 413),
    ] {
        let response = desk
            .send(request("admin", "POST", &path, headers, Body::from(body.to_owned())))
            .await;
        assert_eq!(response.status().as_u16(), expected, "{headers:?} {body:.30}");
    }
    let delete = desk.send(request("admin", "DELETE", &path, &[], Body::empty())).await;
    assert_eq!(delete.status(), StatusCode::FORBIDDEN);
    let wrong_method = desk.send(request("admin", "PUT", &path, &[own], Body::empty())).await;
    assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong_method.headers()[header::ALLOW], "POST,DELETE");
}

#[tokio::test]
async fn a_login_gives_a_session_and_wrong_tokens_a_pause() {
    let desk = Desk::filled(&[]);
    let json = [("content-type", "application/json")];
    let login = |token: &str| request("", "POST", "/api/login", &json, Body::from(format!("{{\"token\":\"{token}\"}}")));
    let response = desk.send(login(&token("viewer"))).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let set = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    let cookie = set.split(';').next().unwrap();
    let me = desk.send(request("", "GET", "/api/me", &[("cookie", cookie)], Body::empty())).await;
    assert_eq!(read(me).await.1["user"], "viewer");
    let text = desk
        .send(request(
            "",
            "POST",
            "/api/login",
            &[("content-type", "text/plain")],
            Body::from("{}"),
        ))
        .await;
    assert_eq!(text.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for _ in 0..10 {
        assert_eq!(desk.send(login("nonsense")).await.status(), StatusCode::UNAUTHORIZED);
    }
    let paused = desk.send(login("nonsense")).await;
    assert_eq!(paused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(paused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(desk.metric("peakdesk_console_refused_total{reason=\"too_many\"}"), 1.0);
    // Others behind the same address are not locked out.
    assert_eq!(desk.send(login(&token("viewer"))).await.status(), StatusCode::NO_CONTENT);
    let foreign = desk.send(request("", "POST", "/api/logout", &[], Body::empty())).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let logout = desk
        .send(request("", "POST", "/api/logout", &[("x-peakdesk", "1")], Body::empty()))
        .await;
    assert!(logout.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn a_stream_brings_the_newest_values_and_resumes() {
    let desk = Desk::filled(&[]);
    let mut stream = desk.stream("viewer", "/api/events?shop=s1&agent=ag", None).await;
    let start = stream.last_id();
    for at in 6..9 {
        desk.shop("s1", at);
        desk.agent("s1", "ag", at);
        desk.agent("s1", "ah", at);
        desk.agent("s2", "bg", at);
    }
    desk.shared.state().flush();
    stream.until(|text| text.matches("event: ").count() >= 5).await;
    // Three values of each became one; nothing of the other shop, no details of the other agent.
    let once = ["shop s1/-", "curve s1/-", "agent s1/ag", "detail s1/ag", "agent s1/ah"];
    assert_eq!(stream.events(), once);
    let place = stream.last_id();
    drop(stream);
    desk.agent("s1", "ah", 9);
    desk.shared.state().flush();
    let mut again = desk.stream("viewer", "/api/events?shop=s1&agent=ag", Some(&place)).await;
    again.until(|text| text.contains("event: ")).await;
    assert_eq!(again.events(), ["agent s1/ah"]);
    // From the beginning, by the query, without the agent: no details.
    let mut all = desk
        .stream("viewer", &format!("/api/events?shop=s1&last_event_id={start}"), None)
        .await;
    all.until(|text| text.matches("event: ").count() >= 4).await;
    assert_eq!(all.events(), ["shop s1/-", "curve s1/-", "agent s1/ag", "agent s1/ah"]);
    let epoch = place.split_once('-').unwrap().0;
    for bad in [
        "other-5",
        "x",
        "-",
        &format!("{epoch}-"),
        &format!("{epoch}-99999999999999999999"),
        &format!("{epoch}-999999"),
    ] {
        let mut reset = desk.stream("viewer", "/api/events?shop=s1", Some(bad)).await;
        assert!(reset.text.contains("event: reset\n"), "{bad}: {}", reset.text);
        // It goes on from now.
        desk.agent("s1", "ah", 100);
        desk.shared.state().flush();
        reset.until(|text| text.contains("event: agent")).await;
    }
    assert_eq!(desk.metric("peakdesk_console_resets_total"), 6.0);
}

#[tokio::test]
async fn streams_are_filtered_by_who_asks() {
    let desk = Desk::filled(&[]);
    let mut agent = desk.stream("agent", "/api/events", None).await;
    let mut elsewhere = desk.stream("elsewhere", "/api/events", None).await;
    let mut everywhere = desk.stream("admin", "/api/events", None).await;
    for shop in ["s1", "s2"] {
        desk.shop(shop, 6);
    }
    for (shop, name) in [("s1", "ah"), ("s2", "bg"), ("s1", "ag")] {
        desk.agent(shop, name, 6);
    }
    {
        let mut state = desk.shared.state();
        for n in 1..=4 {
            let mut end = row(&id(n), 1, TransitionKind::Resolved, Severity::Major, 50);
            (end.shop_id, end.agent_id) = match n {
                1 => ("s1".into(), Some("ag".into())),
                2 => ("s1".into(), None),
                3 => ("s2".into(), Some("bg".into())),
                _ => ("s1".into(), Some("ah".into())),
            };
            state.apply_alert(&end, 0);
        }
        state.flush();
    }
    agent
        .until(|text| text.contains("event: alert") && text.contains("event: agent"))
        .await;
    everywhere.until(|text| text.matches("event: alert").count() == 4).await;
    elsewhere
        .until(|text| text.contains("event: alert") && text.contains("event: shop"))
        .await;
    assert_eq!(agent.events(), ["detail s1/ag", "alert s1/ag", "agent s1/ag"]);
    assert_eq!(elsewhere.events(), ["alert s2/bg", "shop s2/-"]);
    assert!(
        everywhere
            .events()
            .iter()
            .all(|event| event.starts_with("shop ") || event.starts_with("alert "))
    );
}

#[tokio::test]
async fn streams_are_limited_and_end_with_the_process() {
    let desk = Desk::filled(&["console.max_streams=2"]);
    let one = desk.stream("viewer", "/api/events?shop=s1", None).await;
    let two = desk.stream("viewer", "/api/events?shop=s1", None).await;
    let (status, _) = desk.get("viewer", "/api/events?shop=s1").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(desk.metric("peakdesk_console_clients"), 2.0);
    drop(one);
    let three = desk.stream("viewer", "/api/events?shop=s1", None).await;
    desk.shared.shutdown.request();
    two.ended().await;
    three.ended().await;
    assert_eq!(desk.metric("peakdesk_console_clients"), 0.0);
    assert_eq!(desk.metric("peakdesk_console_dropped_clients_total"), 0.0);
}

#[tokio::test]
async fn routes_that_were_added_are_for_admins() {
    let desk = Desk::filled(&[]);
    assert_eq!(desk.get("admin", "/api/more").await, (StatusCode::OK, Value::Bool(true)));
    for user in ["supervisor", "viewer", "agent"] {
        assert_eq!(desk.get(user, "/api/more").await.0, StatusCode::FORBIDDEN, "{user}");
    }
    assert_eq!(desk.get("", "/api/more").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nothing_is_answered_before_everything_is_read() {
    let desk = Desk::new(&[]);
    desk.shop("s1", 5);
    let (status, _) = desk.get("admin", "/api/shops").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(desk.get("admin", "/api/me").await.0, StatusCode::OK);
    let opened = tokio::spawn({
        let router = desk.router.clone();
        async move {
            router
                .oneshot(request("admin", "GET", "/api/events?shop=s1", &[], Body::empty()))
                .await
                .unwrap()
        }
    });
    Source::ALL.into_iter().for_each(|source| desk.shared.source_read(source));
    assert_eq!(tokio::time::timeout(LIMIT, opened).await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(desk.get("admin", "/api/shops").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_page_is_served_with_tags_and_without_foreign_parts() {
    let desk = Desk::new(&[]);
    for path in ["/", "/floor", "/floor/s1", "/agent/s1/ag", "/screen/s1", "/alerts", "/index.html"] {
        let response = desk.send(request("", "GET", path, &[], Body::empty())).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
        let known = desk.send(request("", "GET", path, &[("if-none-match", &tag)], Body::empty())).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
    for path in [
        "/nothing",
        "/assets/nothing.js",
        "/assets/../index.html",
        "/api",
        "/api/",
        "/floors",
    ] {
        let response = desk.send(request("", "GET", path, &[], Body::empty())).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let response = desk.send(request("", "POST", "/", &[], Body::empty())).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    let api = desk.send(request("", "GET", "/api/openapi.json", &[], Body::empty())).await;
    assert_eq!(api.headers()[header::CACHE_CONTROL], "no-store");
}

#[test]
fn an_open_console_is_refused_beyond_loopback() {
    let start = |sets: &[&str]| {
        let sources = Sources {
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            ..Sources::default()
        };
        let (metrics, health) = (Metrics::new("0").unwrap(), Health::new());
        let around = Around {
            metrics: &metrics,
            health: &health,
            shutdown: Shutdown::new(),
        };
        let started = Shared::new(&Config::load(&sources).unwrap(), Policies::default(), &around);
        started.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(start(&["http.listen=127.0.0.1:0"]), Ok(()));
    assert_eq!(start(&["http.listen=[::1]:0"]), Ok(()));
    let open = start(&["http.listen=0.0.0.0:80"]).unwrap_err();
    assert!(open.contains("0.0.0.0:80") && open.contains("console.auth"), "{open}");
    assert!(start(&["http.listen="]).unwrap_err().contains("http.listen"));
}
