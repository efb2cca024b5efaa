//! The console at its limits: who may see what, what its description says, clients that do not read, and very many that do.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use peakdesk_model::alert::{Severity, TransitionKind};
use peakdesk_model::live::{AgentLive, LiveKey};
use peakdesk_tests::{Context, Result, ensure, python_with, scene, wait_until};
use serde_json::json;

use crate::console::{token, users};
use crate::console_support::{DAY, Events, Floor, agent, alert_id, call, curve, detail, get, shop, transition, wall_ms};
use crate::support::{LONG, Role, SOON};

/// Fills two shops, with an alert each of the first one's agents and of the shop itself.
fn fill(floor: &mut Floor<'_>, console: &Role) -> Result {
    for name in ["s1", "s2"] {
        let agents = [agent(name, "a1", 5), detail(name, "a1", 5), agent(name, "a2", 5)];
        floor.live(&agents)?;
        floor.live(&[curve(name, 5), shop(name, 5)])?;
    }
    let fire = |agent| transition("s1", agent, 1, 0, TransitionKind::Firing, Severity::Major);
    floor.alerts(0, &[fire(Some("a1")), fire(Some("a2")), fire(None)])?;
    wait_until("the console to know it all", SOON, || {
        let shops = get(console, &token("admin"), "/api/shops")?.json()?;
        let known = shops["shops"].as_array().map(Vec::len) == Some(2) && shops["shops"][0]["open_alerts"]["major"] == 3;
        ensure!(known, "{shops}");
        Ok(Some(()))
    })
}

#[test]
fn every_role_sees_its_own_in_every_way_of_being_known() {
    scene(|scene| {
        let mut floor = Floor::new(scene)?;
        let settings = users(scene)?;
        let console = floor.console("console", &settings)?;
        fill(&mut floor, &console)?;
        let proxied = [settings.as_slice(), &["console.auth=proxy".to_owned()]].concat();
        let by_proxy = floor.console("by-proxy", &proxied)?;
        let stranger = [proxied.as_slice(), &["console.trusted_proxies=10.0.0.0/8".to_owned()]].concat();
        let elsewhere = floor.console("behind-another-proxy", &stranger)?;

        let own_alert = format!("/api/alerts/{}/acknowledge", alert_id("s1", Some("a1"), 1));
        let cases = [
            ("GET", "/api/me", [401, 200, 200, 200, 200, 200]),
            ("GET", "/api/shops", [401, 200, 200, 200, 200, 403]),
            ("GET", "/api/shops/s1", [401, 200, 200, 200, 404, 403]),
            ("GET", "/api/shops/s1/curve", [401, 200, 200, 200, 404, 403]),
            ("GET", "/api/shops/s1/agents", [401, 200, 200, 200, 404, 403]),
            ("GET", "/api/shops/s1/agents/a1", [401, 200, 200, 200, 404, 200]),
            ("GET", "/api/shops/s1/agents/a2", [401, 200, 200, 200, 404, 404]),
            ("GET", "/api/shops/s2/agents/a1", [401, 200, 404, 404, 200, 404]),
            ("GET", "/api/alerts", [401, 200, 200, 200, 200, 200]),
            ("POST", &own_alert, [401, 200, 200, 403, 404, 403]),
            ("DELETE", &own_alert, [401, 200, 200, 403, 404, 403]),
        ];
        let names = ["", "admin", "supervisor", "viewer", "elsewhere", "agent"];
        for (method, path, expected) in cases {
            for (name, expected) in names.into_iter().zip(expected) {
                let bearer = format!("Bearer {}", token(name));
                let group = format!("all-{name}");
                let change = [("X-Peakdesk", "1"), ("Content-Type", "application/json")];
                let with_token = [("Authorization", bearer.as_str()), change[0], change[1]];
                // The agent is known to the proxy by its name, the others by a group.
                let user = if name == "agent" { name } else { "somebody" };
                let with_name = [
                    ("X-Forwarded-User", user),
                    ("X-Forwarded-Groups", group.as_str()),
                    change[0],
                    change[1],
                ];
                let body = if method == "POST" { "{}" } else { "" };
                let (token_headers, proxy_headers) = if name.is_empty() {
                    (&change[..], &change[..])
                } else {
                    (&with_token[..], &with_name[..])
                };
                let answer = call(&console, method, path, token_headers, body)?;
                ensure!(
                    answer.status == expected,
                    "{name:?} by token: {method} {path}: {} {}",
                    answer.status,
                    answer.body
                );
                let answer = call(&by_proxy, method, path, proxy_headers, body)?;
                ensure!(
                    answer.status == expected,
                    "{name:?} by proxy: {method} {path}: {} {}",
                    answer.status,
                    answer.body
                );
                let answer = call(&elsewhere, method, path, proxy_headers, body)?;
                ensure!(answer.status == 403, "{name:?} past the proxy: {method} {path}: {}", answer.status);
            }
        }
        let seen = get(&console, &token("agent"), "/api/alerts?state=all")?.json()?;
        ensure!(seen["alerts"].as_array().map(Vec::len) == Some(1), "{seen}");

        // Tokens: a session, and what happens to those who guess.
        let login = |token: &str| {
            let body = json!({ "token": token }).to_string();
            call(&console, "POST", "/api/login", &[("Content-Type", "application/json")], &body)
        };
        let answer = login(&token("viewer"))?;
        ensure!(answer.status == 204, "{answer:?}");
        // The head is in lower case, which a cookie does not bear: it is taken for its attributes only.
        for part in ["httponly", "samesite=strict", "secure"] {
            ensure!(answer.head.contains(part), "no {part}: {}", answer.head);
        }
        for _ in 0..10 {
            ensure!(login("wrong")?.status == 401, "a wrong token was not refused");
        }
        let paused = login("wrong")?;
        ensure!(paused.status == 429 && paused.head.contains("retry-after: "), "{paused:?}");
        ensure!(login(&token("viewer"))?.status == 204, "somebody at the same address is locked out");
        Ok(())
    });
}

#[test]
fn streams_hold_what_their_user_may_see() {
    scene(|scene| {
        let mut floor = Floor::new(scene)?;
        let settings = users(scene)?;
        let console = floor.console("console", &settings)?;
        fill(&mut floor, &console)?;
        let bearer = |name: &str| format!("Bearer {}", token(name));
        let open = |name: &str, path: &str| Events::open(&console, path, &[("Authorization", bearer(name).as_str())]);
        let mut own = open("agent", "/api/events?shop=s1&agent=a1")?;
        let mut viewer = open("viewer", "/api/events")?;
        for (name, path) in [
            ("viewer", "shop=s2"),
            ("agent", "shop=s1&agent=a2"),
            ("elsewhere", "shop=s1"),
            ("", "shop=s1"),
        ] {
            let status = get(
                &console,
                &if name.is_empty() { String::new() } else { token(name) },
                &format!("/api/events?{path}"),
            )?
            .status;
            ensure!(status == if name.is_empty() { 401 } else { 404 }, "{name:?} {path}: {status}");
        }
        for name in ["s2", "s1"] {
            floor.live(&[agent(name, "a2", 6), shop(name, 6), agent(name, "a1", 6)])?;
        }
        own.next("the agent's own figures", |e| e.kind == "agent" && e.data["figures"]["rounds"] == 6)?;
        viewer.next("the shop's figures", |e| e.kind == "shop" && e.data["figures"]["orders_paid"] == 6)?;
        let all = own.events.iter().chain(&viewer.events);
        let foreign: Vec<_> = all.filter(|e| e.data["shop_id"] != "s1").collect();
        ensure!(
            foreign.is_empty() && own.events.iter().all(|e| e.data["agent_id"] == "a1"),
            "{foreign:?} {:?}",
            own.events
        );
        Ok(())
    });
}

#[test]
fn the_api_is_what_its_description_says() {
    scene(|scene| {
        let mut floor = Floor::new(scene)?;
        // With ids that are made up, then with those that are there.
        let known = concat!(env!("CARGO_MANIFEST_DIR"), "/api/known.toml");
        for (name, config) in [("made-up", &[][..]), ("known", &["--config-file", known])] {
            // One of its own, which has not heard the other's wrong tokens.
            let console = floor.console(name, &users(scene)?)?;
            fill(&mut floor, &console)?;
            let checks = scene
                .program("schemathesis", python_with("api/requirements.txt")?)
                .env("NO_PROXY", "127.0.0.1")
                .args(["-m", "schemathesis.cli"])
                .args(config)
                .args(["--no-color", "run", &format!("{}/api/openapi.json", console.url)])
                .args(["--header", &format!("Authorization: Bearer {}", token("admin"))])
                // A stream has no end; it has tests of its own. Logging in with what was made up makes this address wait.
                .args(["--exclude-path", "/api/events", "--exclude-path", "/api/login"])
                .args(["--checks", "all", "--max-examples", "40", "--seed", "11"])
                .args(["--generation-database", "none"]);
            let outcome = checks.run(LONG)?;
            println!("{}", outcome.stdout);
            ensure!(
                outcome.status.success(),
                "the description and the answers differ, see above: {}",
                outcome.stderr
            );
            let blind = outcome.stdout.contains("Missing test data");
            ensure!(!blind || config.is_empty(), "ids that are there were not found, see above");
        }
        Ok(())
    });
}

/// Resident memory of a role (bytes).
fn resident(console: &mut Role) -> Result<f64> {
    console
        .metric("peakdesk_process_resident_memory_bytes", "")?
        .pop()
        .context("no metric of memory")
}

/// Values of agents with many figures: about a megabyte.
fn large(step: i64) -> Vec<(LiveKey, String)> {
    let value = |n: i32| {
        let id = format!("a{n}");
        let figures = (0..200).map(|k| (format!("a_figure_with_a_long_name_{k}"), step)).collect();
        let live = AgentLive {
            shop_id: "s1".into(),
            agent_id: id.clone(),
            at: step,
            day: DAY.into(),
            figures,
            ..AgentLive::default()
        };
        let key = LiveKey::Agent {
            shop: "s1".into(),
            agent: id,
        };
        (key, serde_json::to_string(&live).unwrap())
    };
    (0..200).map(value).collect()
}

#[test]
fn clients_that_do_not_read_are_dropped_and_cost_no_memory() {
    const CLIENTS: usize = 50;
    scene(|scene| {
        let floor = Floor::new(scene)?;
        let mut console = floor.console("console", &[])?;
        floor.live(&[shop("s1", 1)])?;
        floor.live(&large(1))?;
        wait_until("the figures", SOON, || {
            ensure!(get(&console, "", "/api/shops/s1")?.status == 200, "no shop yet");
            Ok(Some(()))
        })?;
        let address = console.url.trim_start_matches("http://").to_owned();
        let mut idle = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = TcpStream::connect(&address)?;
            write!(stream, "GET /api/events?shop=s1 HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
            idle.push(stream);
        }
        wait_until("all to be connected", SOON, || {
            let clients = console.metric("peakdesk_console_clients", "")?;
            ensure!(clients == [CLIENTS as f64], "{clients:?}");
            Ok(Some(()))
        })?;
        let mut reader = Events::open(&console, "/api/events?shop=s1", &[])?;
        let before = resident(&mut console)?;
        let (mut most, mut step, begun) = (before, 1, Instant::now());
        loop {
            step += 1;
            floor.live(&large(step))?;
            floor.live(&[shop("s1", step)])?;
            // One that reads is served all the while.
            reader.next("the newest figures", |e| {
                e.kind == "shop" && e.data["figures"]["orders_paid"] == step
            })?;
            most = most.max(resident(&mut console)?);
            let dropped = console.metric("peakdesk_console_dropped_clients_total", "")?;
            if dropped == [CLIENTS as f64] {
                break;
            }
            ensure!(
                begun.elapsed() < LONG,
                "after {step} rounds of a megabyte each {dropped:?} were dropped"
            );
        }
        let clients = console.metric("peakdesk_console_clients", "")?;
        ensure!(clients == [1.0], "{clients:?}");
        println!(
            "{CLIENTS} clients that do not read were dropped after {:.0} s and {step} MB of changes for each; memory grew by {:.1} MB",
            begun.elapsed().as_secs_f64(),
            (most - before) / 1e6
        );
        // A queue for each would have held gigabytes.
        ensure!(most - before < 150e6, "memory grew from {before} to {most}");
        drop(idle);
        Ok(())
    });
}

#[test]
fn two_thousand_pages_are_served_in_time() {
    const CLIENTS: usize = 2_000;
    const AGENTS: i64 = 20;
    const ROUNDS: i64 = 10;
    scene(|scene| {
        let floor = Floor::new(scene)?;
        let mut console = floor.console("console", &[])?;
        let round = |step: i64| -> Vec<_> {
            let agents = (0..AGENTS).map(|n| agent("s1", &format!("a{n}"), step));
            agents.chain([shop("s1", step)]).collect()
        };
        floor.live(&round(1))?;
        wait_until("the figures", SOON, || {
            ensure!(get(&console, "", "/api/shops/s1")?.status == 200, "no shop yet");
            Ok(Some(()))
        })?;
        let before = resident(&mut console)?;
        let crowd = Arc::new(Crowd::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = console.url.trim_start_matches("http://").to_owned();
        for _ in 0..CLIENTS {
            runtime.spawn(page(address.clone(), crowd.clone()));
        }
        wait_until("all pages to be open", LONG, || {
            let clients = console.metric("peakdesk_console_clients", "")?;
            let failed = crowd.failed.load(Ordering::Relaxed);
            ensure!(clients == [CLIENTS as f64], "{clients:?} clients, {failed} failed");
            Ok(Some(()))
        })?;
        let open = resident(&mut console)?;
        for step in 2..2 + ROUNDS {
            floor.live(&round(step))?;
            wait_until("all pages to have the newest figures", LONG, || {
                let seen = crowd.seen.load(Ordering::Relaxed);
                ensure!(seen >= CLIENTS * (step as usize - 1), "{seen} in round {step}");
                Ok(Some(()))
            })?;
        }
        let quantiles = [0.5, 0.99, 1.0].map(|q| crowd.delay_ms(q));
        let streaming = resident(&mut console)?;
        let dropped = console.metric("peakdesk_console_dropped_clients_total", "")?;
        println!(
            "{CLIENTS} pages: {:.1} KB of memory each when open, {:.1} KB while figures of {AGENTS} agents stream; delay p50 {} ms, p99 {} ms, greatest {} ms",
            (open - before) / CLIENTS as f64 / 1e3,
            (streaming - before) / CLIENTS as f64 / 1e3,
            quantiles[0],
            quantiles[1],
            quantiles[2],
        );
        ensure!(
            dropped == [0.0] && crowd.failed.load(Ordering::Relaxed) == 0,
            "dropped: {dropped:?}"
        );
        ensure!((streaming - before) / (CLIENTS as f64) < 100e3, "a page costs too much memory");
        Ok(())
    });
}

/// What very many pages saw.
struct Crowd {
    /// Figures of the shop, over all pages.
    seen: AtomicUsize,
    /// Pages that could not be opened, or ended.
    failed: AtomicUsize,
    /// How many came with each delay (ms); the last for all greater ones.
    delays: Vec<AtomicU64>,
}

impl Default for Crowd {
    fn default() -> Self {
        Crowd {
            seen: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            delays: (0..60_000).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Crowd {
    /// The delay (ms) below or at which this share of the figures came.
    fn delay_ms(&self, share: f64) -> usize {
        let counts: Vec<u64> = self.delays.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let wanted = (share * counts.iter().sum::<u64>() as f64) as u64;
        let mut sum = 0;
        let reached = counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        reached.unwrap_or_default()
    }
}

/// A page that is open: reads its stream, and notes when the shop's figures came.
async fn page(address: String, crowd: Arc<Crowd>) {
    if watch(&address, &crowd).await.is_err() {
        crowd.failed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn watch(address: &str, crowd: &Crowd) -> std::io::Result<()> {
    const SENT: &[u8] = b"\"sent_wall_ms\":";
    let stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET /api/events?shop=s1 HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.writable().await?;
    stream.try_write(request.as_bytes())?;
    let (mut held, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        // Ends with the test.
        if tokio::time::timeout(Duration::from_secs(600), stream.readable()).await.is_err() {
            return Ok(());
        }
        match stream.try_read(&mut chunk) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => held.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        while let Some(at) = held.windows(SENT.len()).position(|w| w == SENT) {
            let digits: Vec<u8> = held[at + SENT.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
            if digits.len() + at + SENT.len() == held.len() {
                break;
            }
            let sent: i64 = String::from_utf8_lossy(&digits).parse().unwrap_or_default();
            let delay = usize::try_from(wall_ms() - sent).unwrap_or_default().min(crowd.delays.len() - 1);
            crowd.delays[delay].fetch_add(1, Ordering::Relaxed);
            crowd.seen.fetch_add(1, Ordering::Relaxed);
            held.drain(..at + SENT.len());
        }
        let keep = held.len().saturating_sub(SENT.len() + 20);
        held.drain(..keep);
    }
}
