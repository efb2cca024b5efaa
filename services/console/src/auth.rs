//! Who asks: nobody's business (on loopback), a token, a session that began with one, or what a trusted proxy says.
//!
//! | `console.auth` | known by | else |
//! | --- | --- | --- |
//! | `none` | – (everybody is admin) | refused unless the request names a loopback host: a page elsewhere must not reach this one by a name of its own |
//! | `token` | `Authorization: Bearer`, or the session's cookie | 401; 429 for a while after too many wrong ones from an address |
//! | `proxy` | the proxy's headers, from its address only | 403 from elsewhere, 401 without a name |
//!
//! A session is a signed statement, not something remembered: name, end, and a keyed hash over both and over the user's token. It ends
//! with its time, with another token of the user, or with another key.

use crate::access::User;
use crate::users::{TokenHash, Users};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peakdesk_runtime::config::{ConsoleAuth, ConsoleConfig};
use peakdesk_runtime::http::is_for_this_machine;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The cookie of a session.
pub const COOKIE: &str = "peakdesk_session";

/// Wrong tokens from one address within [`FAILURES_WINDOW_MS`].
const FAILURES_MAX: u32 = 10;
const FAILURES_WINDOW_MS: i64 = 60_000;
/// Addresses whose failures are counted at a time.
const ADDRESSES_MAX: usize = 10_000;
/// A session's cookie is shorter.
const CREDENTIAL_LEN_MAX: usize = 4_096;

/// Somebody who is known.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who.
    pub user: Arc<User>,
    /// When the session ends, by the wall clock (ms); `None`: with the request.
    pub until_ms: Option<i64>,
}

/// Why somebody is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who it is.
    Unknown,
    /// Too many wrong tokens came from there.
    TooMany {
        /// When to try again.
        retry_after_s: i64,
    },
    /// The request came to a name that is not this machine's.
    Host,
    /// The request did not come through the proxy.
    NotProxy,
}

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random key for sessions: {0}; set console.session_key_file")]
pub struct NoRandomness(getrandom::Error);

/// Decides who asks.
pub struct Auth {
    config: ConsoleConfig,
    users: Users,
    key: [u8; 32],
    nobody: Arc<User>,
    failures: Mutex<Failures>,
}

impl Auth {
    /// By a configuration and its users.
    pub fn new(config: &ConsoleConfig, users: Users) -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        match &config.session_key {
            Some(configured) => key = *configured.reveal(),
            None => getrandom::fill(&mut key).map_err(NoRandomness)?,
        }
        Ok(Auth {
            config: config.clone(),
            users,
            key,
            nobody: Arc::new(User::admin("local")),
            failures: Mutex::default(),
        })
    }

    /// How users are known.
    pub fn mode(&self) -> ConsoleAuth {
        self.config.auth
    }

    /// Whether a request may come in at all, whoever asks.
    pub fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.config.auth == ConsoleAuth::None && !is_for_this_machine(headers) {
            return Err(Refusal::Host);
        }
        Ok(())
    }

    /// Who asks.
    pub fn identify(&self, peer: IpAddr, headers: &HeaderMap, now_ms: i64) -> Result<Identity, Refusal> {
        match self.config.auth {
            ConsoleAuth::None => Ok(Identity {
                user: self.nobody.clone(),
                until_ms: None,
            }),
            ConsoleAuth::Proxy => self.by_proxy(peer, headers),
            ConsoleAuth::Token => {
                if let Some(token) = text(headers, header::AUTHORIZATION.as_str()) {
                    let token = token.strip_prefix("Bearer ").unwrap_or_default();
                    let user = self.by_token(peer, token, now_ms)?;
                    return Ok(Identity { user, until_ms: None });
                }
                cookies(headers)
                    .find_map(|value| self.by_session(value, now_ms))
                    .ok_or(Refusal::Unknown)
            }
        }
    }

    fn by_proxy(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Identity, Refusal> {
        // Seen through a socket of both families, an IPv4 address looks like an IPv6 one.
        let peer = peer.to_canonical();
        if !self.config.trusted_proxies.iter().any(|network| network.contains(&peer)) {
            return Err(Refusal::NotProxy);
        }
        let name = text(headers, &self.config.proxy_user_header).map(str::trim).unwrap_or_default();
        if name.is_empty() || headers.get_all(self.config.proxy_user_header.as_str()).iter().count() > 1 {
            return Err(Refusal::Unknown);
        }
        let lines = headers.get_all(self.config.proxy_groups_header.as_str()).iter();
        let groups = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        let user = Arc::new(self.users.of_proxy(name, groups.map(str::trim)));
        Ok(Identity { user, until_ms: None })
    }

    /// The user of a token; wrong ones are counted by address. A right one is let in whatever came before it: behind one proxy
    /// everybody has one address, and tokens are too long to be guessed.
    pub fn by_token(&self, peer: IpAddr, token: &str, now_ms: i64) -> Result<Arc<User>, Refusal> {
        let known = (token.len() <= CREDENTIAL_LEN_MAX).then(|| self.users.of_token(token)).flatten();
        if let Some(user) = known {
            return Ok(user.clone());
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(retry_after_s) = failures.refuses(peer, now_ms) {
            return Err(Refusal::TooMany { retry_after_s });
        }
        failures.note(peer, now_ms);
        Err(Refusal::Unknown)
    }

    /// The `Set-Cookie` of a new session.
    pub fn begin(&self, user: &User, now_ms: i64) -> Option<String> {
        let (_, token) = self.users.of_name(&user.name)?;
        let until_ms = now_ms + i64::try_from(self.config.session.as_millis()).ok()?;
        let name = URL_SAFE_NO_PAD.encode(&user.name);
        let mac = self.mac(&user.name, until_ms, &token);
        let value = format!("{name}.{until_ms}.{}", mac.to_hex());
        Some(self.cookie(&value, self.config.session.as_secs()))
    }

    /// The `Set-Cookie` that ends a session.
    pub fn end(&self) -> String {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, max_age_s: u64) -> String {
        let secure = if self.config.secure_cookie { "; Secure" } else { "" };
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}")
    }

    fn by_session(&self, value: &str, now_ms: i64) -> Option<Identity> {
        if value.len() > CREDENTIAL_LEN_MAX {
            return None;
        }
        let mut parts = value.split('.');
        let (name, until, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let until_ms: i64 = until.parse().ok()?;
        let mac = blake3::Hash::from_hex(mac).ok()?;
        let (user, token) = self.users.of_name(&name)?;
        // Hashes compare in the same time whatever they are.
        let holds = parts.next().is_none() && mac == self.mac(&name, until_ms, &token) && until_ms > now_ms;
        holds.then(|| Identity {
            user: user.clone(),
            until_ms: Some(until_ms),
        })
    }

    fn mac(&self, name: &str, until_ms: i64, token: &TokenHash) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher
            .update(token.as_bytes())
            .update(&until_ms.to_be_bytes())
            .update(name.as_bytes());
        hasher.finalize()
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The values of the session's cookie; a browser may send several.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Wrong tokens by address.
#[derive(Debug, Default)]
struct Failures {
    /// When the window of an address began (ms), and how many came in it.
    by_address: BTreeMap<IpAddr, (i64, u32)>,
}

impl Failures {
    /// How long an address has to wait (s), if it has to.
    fn refuses(&self, peer: IpAddr, now_ms: i64) -> Option<i64> {
        let (began, n) = self.by_address.get(&network(peer))?;
        let left_ms = began + FAILURES_WINDOW_MS - now_ms;
        (*n >= FAILURES_MAX && left_ms > 0).then_some((left_ms + 999) / 1_000)
    }

    fn note(&mut self, peer: IpAddr, now_ms: i64) {
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, (began, _)| *began + FAILURES_WINDOW_MS > now_ms);
        }
        if self.by_address.len() >= ADDRESSES_MAX {
            // So many at once are one attacker with many addresses; forgetting the least is the least harm.
            let least = self.by_address.iter().min_by_key(|(_, (_, n))| *n).map(|(address, _)| *address);
            least.and_then(|address| self.by_address.remove(&address));
        }
        let entry = self.by_address.entry(network(peer)).or_insert((now_ms, 0));
        if entry.0 + FAILURES_WINDOW_MS <= now_ms {
            *entry = (now_ms, 0);
        }
        entry.1 += 1;
    }
}

/// A network of IPv6 is one party's.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
