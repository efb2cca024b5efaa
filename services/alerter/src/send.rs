//! Attempts: a thread for each receiver, which does one at a time, so that a slow receiver delays nobody else.

use crate::message::{Delivery, Outcome};
use crate::robots::{judge, request};
use crate::routes::{Plan, Receiver};
use crate::words::Words;
use peakdesk_log::group::wall_ms;
use peakdesk_model::time::UtcOffset;
use peakdesk_runtime::secret::REDACTED;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// An answer is a few hundred bytes.
const ANSWER_LEN_MAX: u64 = 64 << 10;
const WHY_LEN_MAX: usize = 300;
/// Parts of an address at least this long are taken for secrets.
const TOKEN_LEN_MIN: usize = 8;

/// How an attempt went.
pub struct Attempt {
    /// At what.
    pub delivery: Delivery,
    /// How it went.
    pub outcome: Outcome,
}

/// What a thread says of a delivery.
pub enum Ended {
    /// An attempt has ended.
    Attempt(Attempt),
    /// The thread panicked in it, and has ended.
    Panic {
        /// Whose thread.
        receiver: String,
    },
}

/// The threads. When this is dropped they end after what they have in hand.
pub struct Senders(Vec<(String, SyncSender<Delivery>)>);

impl Senders {
    /// Starts a thread for each receiver; attempts are told to `done`, which must have room for one of each.
    pub fn start(plan: &Plan, offset: UtcOffset, console_url: &Option<String>, done: &SyncSender<Ended>) -> std::io::Result<Self> {
        let mut all = Vec::new();
        for receiver in &plan.receivers {
            let words = Words {
                language: receiver.language,
                offset,
                console_url: console_url.clone(),
            };
            let (receiver, agent) = (receiver.clone(), agent(receiver.timeout));
            let name = receiver.name.clone();
            let jobs = spawn(&name, done, move |delivery| attempt(&agent, &receiver, delivery, &words))?;
            all.push((name, jobs));
        }
        Ok(Senders(all))
    }

    /// Hands a delivery to the thread of its receiver, which must have nothing else in hand. Returns whether it took it.
    pub fn send(&self, delivery: &Delivery) -> bool {
        let thread = self.0.iter().find(|(name, _)| *name == delivery.receiver);
        thread.is_some_and(|(_, jobs)| {
            !matches!(
                jobs.try_send(delivery.clone()),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
        })
    }
}

/// Starts the thread of a receiver.
fn spawn(
    receiver: &str,
    done: &SyncSender<Ended>,
    attempt: impl Fn(&Delivery) -> Outcome + Send + 'static,
) -> std::io::Result<SyncSender<Delivery>> {
    let (jobs, work) = sync_channel::<Delivery>(1);
    let (receiver, done) = (receiver.to_owned(), done.clone());
    let body = move || {
        for delivery in work {
            // Without a word of it the receiver would be told nothing any more, and nobody would know.
            let ended = match catch_unwind(AssertUnwindSafe(|| attempt(&delivery))) {
                Ok(outcome) => Ended::Attempt(Attempt { delivery, outcome }),
                Err(_) => Ended::Panic {
                    receiver: receiver.clone(),
                },
            };
            let is_last = matches!(ended, Ended::Panic { .. });
            if done.send(ended).is_err() || is_last {
                return;
            }
        }
    };
    std::thread::Builder::new().name("send".into()).spawn(body)?;
    Ok(jobs)
}

fn agent(timeout: Duration) -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder()
        .provider(ureq::tls::TlsProvider::NativeTls)
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(timeout))
        // Less than the whole, so that it is known that nothing was sent.
        .timeout_connect(Some(timeout / 2))
        .http_status_as_error(false)
        // A message is sent where it is configured to be sent, and nowhere else.
        .max_redirects(0)
        // A connection that the other side is about to close would make a failure of nothing.
        .max_idle_connections(0)
        .build()
        .into()
}

fn attempt(agent: &ureq::Agent, receiver: &Receiver, delivery: &Delivery, words: &Words) -> Outcome {
    let request = match request(receiver, delivery, words, wall_ms()) {
        Ok(request) => request,
        Err(why) => {
            return Outcome::Refused {
                why: scrub(&why, receiver),
            };
        }
    };
    let mut call = agent.post(&request.url);
    for (name, value) in &request.headers {
        call = call.header(*name, value);
    }
    let received = call.send(&request.body).and_then(|mut response| {
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_LEN_MAX).read_to_string();
        match body {
            Ok(body) => Ok((status, body, retry_after)),
            // What matters of these is the status.
            Err(_) if status >= 300 => Ok((status, String::new(), retry_after)),
            Err(error) => Err(error),
        }
    });
    let outcome = match received {
        Ok((status, body, retry_after)) => judge(&receiver.kind, status, &body, retry_after),
        Err(error) => failure(&error),
    };
    let scrubbed = |why: String| scrub(&why, receiver);
    match outcome {
        Outcome::Delivered => Outcome::Delivered,
        Outcome::NotNow { why, wait_ms } => Outcome::NotNow {
            why: scrubbed(why),
            wait_ms,
        },
        Outcome::Refused { why } => Outcome::Refused { why: scrubbed(why) },
        Outcome::Unknown { why } => Outcome::Unknown { why: scrubbed(why) },
    }
}

/// What a call without an answer means.
fn failure(error: &ureq::Error) -> Outcome {
    use ureq::{Error, Timeout};
    let not_now = |why: &str| Outcome::NotNow {
        why: why.to_owned(),
        wait_ms: None,
    };
    match error {
        Error::HostNotFound => not_now("its host is not found"),
        Error::ConnectionFailed => not_now("no connection"),
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => not_now("no connection in time"),
        Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => not_now("the connection was refused"),
        Error::Tls(_) | Error::NativeTls(_) | Error::TlsRequired => not_now(&format!("no secure connection: {error}")),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => not_now("no connection through the proxy"),
        Error::BadUri(_) | Error::Http(_) => Outcome::Refused {
            why: "its address cannot be used".into(),
        },
        Error::Timeout(_) => Outcome::Unknown {
            why: "no answer in time".into(),
        },
        error => Outcome::Unknown { why: error.to_string() },
    }
}

/// A text without the receiver's secrets, of bounded length.
fn scrub(text: &str, receiver: &Receiver) -> String {
    let url = receiver.url.reveal().as_str();
    let mut secrets = vec![url];
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let place = rest.split_once(['/', '?', '#']).map_or("", |(_, place)| place);
    secrets.extend(place.split(['/', '?', '&', '=', '#']).filter(|part| part.len() >= TOKEN_LEN_MIN));
    if let Some((user, _)) = rest.split('/').next().and_then(|authority| authority.rsplit_once('@')) {
        secrets.extend(user.split(':'));
    }
    for secret in [&receiver.secret, &receiver.bearer].into_iter().flatten() {
        secrets.push(secret.reveal());
    }
    let mut out = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        out = out.replace(secret, REDACTED);
    }
    out.chars().take(WHY_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::routes::{Kind, Language};
    use peakdesk_runtime::secret::Secret;

    #[test]
    fn errors_hold_no_secret() {
        let receiver = Receiver {
            name: "r".into(),
            kind: Kind::Dingtalk,
            url: Secret::new("https://u:pw@oapi.dingtalk.com/robot/send?access_token=0123456789abcdef".into()),
            secret: Some(Secret::new("SECxyz".into())),
            bearer: Some(Secret::new("tok".into())),
            language: Language::English,
            per_minute: 20,
            timeout: Duration::from_secs(1),
            tries_max: 5,
            retry_max_ms: 1_000,
        };
        let text = scrub("token 0123456789abcdef of u and pw is not SECxyz, tok", &receiver);
        for secret in ["0123456789abcdef", "pw", "SECxyz", "tok,"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("(secret)"));
        let bare = Receiver {
            url: Secret::new("https://h?token=fedcba9876543210".into()),
            ..receiver.clone()
        };
        let text = scrub("a redirect to /x?token=fedcba9876543210", &bare);
        assert!(!text.contains("fedcba"), "{text}");
        assert_eq!(scrub(&"x".repeat(1_000), &receiver).len(), WHY_LEN_MAX);
    }

    #[test]
    fn a_panic_in_a_thread_is_told() {
        let (done, results) = sync_channel(1);
        let jobs = spawn("r", &done, |delivery| {
            assert!(delivery.receiver != "bad", "a defect");
            Outcome::Delivered
        })
        .unwrap();
        let ended = |receiver: &str| {
            jobs.send(Delivery::new(receiver, Vec::new(), 0)).unwrap();
            results.recv_timeout(Duration::from_secs(60)).unwrap()
        };
        assert!(matches!(ended("good"), Ended::Attempt(a) if a.outcome == Outcome::Delivered));
        assert!(matches!(ended("bad"), Ended::Panic { receiver } if receiver == "r"));
    }
}
