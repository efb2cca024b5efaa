//! The users file: who may see which shops. TOML; `schemas/console.users.example.toml` explains it.
//!
//! A file that was read is valid: names and tokens are unique, an agent has one shop, everybody else at least one.

use crate::access::{Grant, Role, Shops, User};
use peakdesk_runtime::config::ConsoleAuth;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A token is a secret that nobody can guess, however many try.
const TOKEN_LEN_MIN: usize = 16;
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a users file is refused. One line.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("users file {}: {error}; set console.users_file to a readable file", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// It is not of the form.
    #[error("users file {}: {problem}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Who may see what.
#[derive(Debug, Clone, Default)]
pub struct Users {
    by_name: BTreeMap<String, Entry>,
    groups: BTreeMap<String, Grant>,
}

#[derive(Debug, Clone)]
struct Entry {
    user: Arc<User>,
    token: Option<TokenHash>,
}

/// The SHA-256 of a token. Comparing two takes the same time whatever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Of a token.
    pub fn of(token: &str) -> Self {
        TokenHash(blake3::Hash::from_bytes(Sha256::digest(token.as_bytes()).into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    user: Vec<Line>,
    #[serde(default)]
    group: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    role: Role,
    shops: Vec<String>,
    agent: Option<String>,
    token_sha256: Option<String>,
    token_file: Option<PathBuf>,
}

impl Users {
    /// Reads a users file and what it names, for a way of knowing users.
    pub fn load(path: &Path, auth: ConsoleAuth) -> Result<Self, UsersError> {
        let unreadable = |error| UsersError::Unreadable {
            path: path.to_owned(),
            error,
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(unreadable(std::io::Error::other("too large")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Users::parse(&text, auth).map_err(|problem| UsersError::Invalid {
            path: path.to_owned(),
            problem,
        })
    }

    fn parse(text: &str, auth: ConsoleAuth) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string().trim_end().replace('\n', " "))?;
        let mut users = Users::default();
        for line in file.user {
            let name = line.name.clone();
            let entry = line.entry().map_err(|problem| format!("user {name:?}: {problem}"))?;
            if entry.token.is_none() && auth == ConsoleAuth::Token {
                return Err(format!("user {name:?}: has no token; give token_sha256 or token_file"));
            }
            let known = |other: &Entry| entry.token.is_some() && other.token == entry.token;
            if let Some((other, _)) = users.by_name.iter().find(|(_, other)| known(other)) {
                return Err(format!("user {name:?}: has the token of {other:?}; every user needs its own"));
            }
            if users.by_name.insert(name.clone(), entry).is_some() {
                return Err(format!("user {name:?} stands there twice; give one all its shops"));
            }
        }
        for line in file.group {
            let name = line.name.clone();
            if line.token_sha256.is_some() || line.token_file.is_some() {
                return Err(format!("group {name:?}: a group has no token; make it a [[user]]"));
            }
            let grant = line.grant().map_err(|problem| format!("group {name:?}: {problem}"))?;
            if users.groups.insert(name.clone(), grant).is_some() {
                return Err(format!("group {name:?} stands there twice; give one all its shops"));
            }
        }
        if users.by_name.is_empty() && (auth == ConsoleAuth::Token || users.groups.is_empty()) {
            return Err("names nobody; write [[user]] with name, role, shops and token_sha256".to_owned());
        }
        Ok(users)
    }

    /// The user of a token. Every token is compared, so that time tells nothing.
    pub fn of_token(&self, token: &str) -> Option<&Arc<User>> {
        let hash = TokenHash::of(token);
        let mut found = None;
        for entry in self.by_name.values() {
            if entry.token.is_some_and(|known| known == hash) {
                found = Some(&entry.user);
            }
        }
        found
    }

    /// A user with a token, by name.
    pub fn of_name(&self, name: &str) -> Option<(&Arc<User>, TokenHash)> {
        let entry = self.by_name.get(name)?;
        Some((&entry.user, entry.token?))
    }

    /// Somebody whom a proxy knows: what the name and the groups grant, together.
    pub fn of_proxy<'g>(&self, name: &str, groups: impl Iterator<Item = &'g str>) -> User {
        let named = self.by_name.get(name).map_or(&[][..], |entry| &entry.user.grants);
        let mut grants = named.to_vec();
        for grant in groups.filter_map(|group| self.groups.get(group)) {
            if !grants.contains(grant) {
                grants.push(grant.clone());
            }
        }
        User {
            name: name.to_owned(),
            grants,
        }
    }
}

impl Line {
    fn entry(self) -> Result<Entry, String> {
        let token = self.token()?;
        let (name, grant) = (self.name.clone(), self.grant()?);
        let user = Arc::new(User { name, grants: vec![grant] });
        Ok(Entry { user, token })
    }

    fn token(&self) -> Result<Option<TokenHash>, String> {
        match (&self.token_sha256, &self.token_file) {
            (Some(_), Some(_)) => Err("both token_sha256 and token_file are set; keep one of them".to_owned()),
            (Some(hex), None) => match blake3::Hash::from_hex(hex.to_ascii_lowercase()) {
                Ok(hash) => Ok(Some(TokenHash(hash))),
                Err(_) => Err("token_sha256 must be 64 hexadecimal digits; make it with: printf %s \"$TOKEN\" | sha256sum".to_owned()),
            },
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|e| format!("token_file {}: {e}", file.display()))?;
                let token = text.trim_end_matches(['\r', '\n']);
                if token.len() < TOKEN_LEN_MIN {
                    return Err(format!(
                        "token_file {}: shorter than {TOKEN_LEN_MIN} characters; make one with: openssl rand -hex 32",
                        file.display()
                    ));
                }
                Ok(Some(TokenHash::of(token)))
            }
            (None, None) => Ok(None),
        }
    }

    fn grant(self) -> Result<Grant, String> {
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            return Err("the name is empty or holds a control character".to_owned());
        }
        let names: BTreeSet<String> = self.shops.iter().cloned().collect();
        let shops = match &self.shops[..] {
            [] => return Err("shops is empty; name them, or \"*\" for all".to_owned()),
            [all] if all == "*" => Shops::All,
            _ if names.contains("*") => return Err("\"*\" stands beside other shops; it means all of them".to_owned()),
            _ => Shops::Named(names),
        };
        match (self.role, self.agent, shops) {
            (Role::Agent, Some(agent), Shops::Named(names)) if names.len() == 1 && !agent.is_empty() => {
                let shop = names.into_iter().next().unwrap_or_default();
                Ok(Grant::Agent { shop, agent })
            }
            (Role::Agent, ..) => Err("an agent needs agent = \"ID\" and one shop".to_owned()),
            (role, None, shops) => Ok(Grant::Staff { role, shops }),
            (_, Some(_), _) => Err("agent is set, but the role is another; take it out or make the role \"agent\"".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const EXAMPLE: &str = include_str!("../../../schemas/console.users.example.toml");

    #[test]
    fn the_example_is_valid_and_means_what_it_says() {
        let users = Users::parse(EXAMPLE, ConsoleAuth::Token).unwrap();
        let (floor, _) = users.of_name("night-supervisor").unwrap();
        assert!(floor.may_acknowledge("shop-1") && !floor.sees_shop("shop-9"));
        let (agent, _) = users.of_name("agent-7").unwrap();
        assert_eq!(agent.agent(), Some(("shop-1", "7")));
        let by_proxy = users.of_proxy("somebody", ["peakdesk-viewers", "other"].into_iter());
        assert!(by_proxy.sees_all() && !by_proxy.may_acknowledge("shop-1"));
        assert_eq!(users.of_proxy("somebody", [].into_iter()).grants, []);
    }

    #[test]
    fn a_token_leads_to_its_user() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sixteen-letters-b\n").unwrap();
        let text = format!(
            "[[user]]\nname = \"a\"\nrole = \"viewer\"\nshops = [\"s\"]\ntoken_sha256 = \"{}\"\n\
             [[user]]\nname = \"b\"\nrole = \"admin\"\nshops = [\"*\"]\ntoken_file = \"{}\"\n",
            TokenHash::of("sixteen-letters-a").0.to_hex(),
            file.path().display()
        );
        let users = Users::parse(&text, ConsoleAuth::Token).unwrap();
        assert_eq!(users.of_token("sixteen-letters-a").unwrap().name, "a");
        assert_eq!(users.of_token("sixteen-letters-b").unwrap().name, "b");
        assert!(users.of_token("").is_none() && users.of_token("sixteen-letters-b\n").is_none());
        // As sha256sum says it.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(TokenHash::of("").0.to_hex().as_str(), empty);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_name() {
        let hash = "ab".repeat(32);
        let user = |rest: &str| format!("[[user]]\nname = \"x\"\n{rest}\n");
        let good = user(&format!("role = \"viewer\"\nshops = [\"s\"]\ntoken_sha256 = \"{hash}\""));
        assert!(Users::parse(&good, ConsoleAuth::Token).is_ok());
        for (text, part) in [
            (String::new(), "names nobody"),
            (good.repeat(2), "has the token of"),
            (user("role = \"viewer\"\nshops = [\"s\"]"), "no token"),
            (user("role = \"boss\"\nshops = [\"s\"]"), "role"),
            (user("role = \"viewer\"\nshops = []"), "shops is empty"),
            (user("role = \"viewer\"\nshops = [\"*\", \"s\"]"), "beside other shops"),
            (user("role = \"agent\"\nshops = [\"s\"]"), "agent needs"),
            (user("role = \"agent\"\nagent = \"a\"\nshops = [\"*\"]"), "agent needs"),
            (user("role = \"viewer\"\nagent = \"a\"\nshops = [\"s\"]"), "role is another"),
            (user("role = \"viewer\"\nshops = [\"s\"]\ntoken_sha256 = \"xyz\""), "64 hexadecimal"),
            (user("role = \"viewer\"\nshops = [\"s\"]\ntoken_file = \"/nowhere\""), "/nowhere"),
            (user("role = \"viewer\"\nshops = [\"s\"]\npassword = \"p\""), "password"),
            (good.replace("\"x\"", "\"\""), "name is empty"),
            (
                format!("{good}[[group]]\nname = \"g\"\nrole = \"viewer\"\nshops = [\"s\"]\ntoken_sha256 = \"{hash}\""),
                "no token",
            ),
        ] {
            let error = Users::parse(&text, ConsoleAuth::Token).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
