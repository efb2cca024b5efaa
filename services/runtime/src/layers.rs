//! The raw configuration: every setting as text, number or boolean, and where it was set.
//!
//! | layer | over | form |
//! | --- | --- | --- |
//! | defaults | – | [`DEFAULTS`], which is also the list of what exists and of its types |
//! | file | defaults | TOML, `--config FILE` |
//! | environment | file | `PEAKDESK__SECTION__KEY=value` |
//! | flags | environment | `--set section.key=value` |
//!
//! Values from the environment and from flags are read by the type of the setting: quotes around a text are optional.
//! Two tables are open, with keys of the user's own: `kafka.options` and `policy.shops`. Their values are texts.
//!
//! Nothing here knows what a setting means; [`crate::config`] does.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Every setting with its default, documented: the reference that users read.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Tables whose keys are not known beforehand.
const OPEN_TABLES: [&str; 2] = [KAFKA_OPTIONS, "policy.shops"];
const KAFKA_OPTIONS: &str = "kafka.options";

const ENV_PREFIX: &str = "PEAKDESK__";

/// Where a setting was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: built in.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A `--set` flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag => f.write_str("flag --set"),
        }
    }
}

/// One line: where, what, what to do.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The file cannot be read.
    #[error("config file {}: {error}; give a readable file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("config file {}: line {line}: {message}; correct the TOML", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// Nobody knows the key.
    #[error("{origin}: unknown key {key}; did you mean {nearest}?")]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// As it stands there.
        key: String,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// The value is of another type than the setting.
    #[error("{origin}: {key} must be {expected}; {hint}")]
    WrongType {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// An example.
        hint: String,
    },
    /// A flag that is not `key=value`, an environment variable that is not text.
    #[error("{origin}: {problem}")]
    Malformed {
        /// Where it stands.
        origin: Origin,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// What the layers are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// All environment variables; only those of the prefix are looked at.
    pub environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Every `--set`, in order; of a repeated key the last one counts.
    pub sets: Vec<String>,
}

impl Sources {
    /// The sources of this process.
    pub fn of_process(file: Option<PathBuf>, sets: Vec<String>) -> Self {
        Sources {
            file,
            environment: std::env::vars_os().collect(),
            sets,
        }
    }
}

/// A setting: its value and its origin. `Debug` leaves out the value, which may be a secret.
#[derive(Clone, PartialEq)]
pub struct Setting {
    /// A text, an integer, a float or a boolean, as in [`DEFAULTS`].
    pub value: Value,
    /// Where it was set.
    pub origin: Origin,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// All settings by their dotted path.
#[derive(Debug, Clone)]
pub struct Layers {
    settings: BTreeMap<String, Setting>,
}

impl Layers {
    /// Reads and merges all layers. A key nobody knows, or a value of a wrong type, is an error.
    pub fn read(sources: &Sources) -> Result<Self, LayerError> {
        let mut layers = Layers::defaults();
        if let Some(path) = &sources.file {
            layers.apply_file(path)?;
        }
        for (name, value) in &sources.environment {
            if let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) {
                layers.apply_environment(name, value)?;
            }
        }
        for set in &sources.sets {
            layers.apply_flag(set)?;
        }
        Ok(layers)
    }

    fn defaults() -> Self {
        let table: Table = DEFAULTS.parse().unwrap_or_default();
        let settings = flatten(&table).into_iter().filter(|(_, value)| !value.is_table());
        Layers {
            settings: settings
                .map(|(path, value)| {
                    (
                        path,
                        Setting {
                            value,
                            origin: Origin::Default,
                        },
                    )
                })
                .collect(),
        }
    }

    /// The setting at a dotted path.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.settings.get(path)
    }

    /// The settings of an open table, by their keys.
    pub fn open_table<'l>(&'l self, table: &'l str) -> impl Iterator<Item = (&'l str, &'l Setting)> {
        self.settings
            .iter()
            .filter_map(move |(path, setting)| Some((path.strip_prefix(table)?.strip_prefix('.')?, setting)))
    }

    /// All settings by dotted path, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(path, setting)| (path.as_str(), setting))
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), LayerError> {
        let text = std::fs::read_to_string(path).map_err(|error| LayerError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| LayerError::NotToml {
            path: path.to_owned(),
            line: error
                .span()
                .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()),
            message: error.message().lines().collect::<Vec<_>>().join(" "),
        })?;
        for (key, value) in flatten(&table) {
            self.set(key, value, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    fn apply_environment(&mut self, name: &str, value: &std::ffi::OsStr) -> Result<(), LayerError> {
        let origin = Origin::Environment(name.to_owned());
        let mut key = name.strip_prefix(ENV_PREFIX).unwrap_or(name).to_lowercase().replace("__", ".");
        if let Some(option) = key.strip_prefix("kafka.options.") {
            key = format!("{KAFKA_OPTIONS}.{}", option.replace('_', "."));
        } else if key.starts_with("policy.shops.") {
            let problem = "shops with a policy of their own cannot be named in the environment; use the file or --set".to_owned();
            return Err(LayerError::Malformed { origin, problem });
        }
        let Some(text) = value.to_str() else {
            return Err(LayerError::Malformed {
                origin,
                problem: "the value is not UTF-8 text".to_owned(),
            });
        };
        self.set_text(key, text, origin)
    }

    fn apply_flag(&mut self, set: &str) -> Result<(), LayerError> {
        let Some((key, text)) = set.split_once('=') else {
            let problem = format!("{set:?} is not of the form section.key=value");
            return Err(LayerError::Malformed {
                origin: Origin::Flag,
                problem,
            });
        };
        self.set_text(key.trim().to_owned(), text.trim(), Origin::Flag)
    }

    /// Sets from a text that has no type of its own.
    fn set_text(&mut self, key: String, text: &str, origin: Origin) -> Result<(), LayerError> {
        let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        let wants_text = self.get(&key).is_none_or(|setting| setting.value.is_str());
        let value = match parsed {
            Some(value) if value.is_str() || !wants_text => value,
            _ => Value::String(text.to_owned()),
        };
        self.set(key, value, origin)
    }

    fn set(&mut self, key: String, value: Value, origin: Origin) -> Result<(), LayerError> {
        let value = if let Some(table) = open_table_of(&key) {
            match value {
                Value::Table(table) if table.is_empty() => return Ok(()),
                _ if key.trim_end_matches('.') == table => return Err(wrong_type(origin, key, "a table")),
                Value::String(_) => value,
                Value::Integer(_) | Value::Float(_) | Value::Boolean(_) if table == KAFKA_OPTIONS => Value::String(value.to_string()),
                _ => return Err(wrong_type(origin, key, "a text")),
            }
        } else if let Some(known) = self.settings.get(&key) {
            match (&known.value, value) {
                (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
                (known, value) if known.same_type(&value) => value,
                (known, _) => return Err(wrong_type(origin, key, type_words(known))),
            }
        } else if value.as_table().is_some_and(Table::is_empty) && self.is_section(&key) {
            return Ok(());
        } else {
            let nearest = self.nearest(&key);
            return Err(LayerError::UnknownKey { origin, key, nearest });
        };
        self.settings.insert(key, Setting { value, origin });
        Ok(())
    }

    fn is_section(&self, key: &str) -> bool {
        self.settings
            .keys()
            .any(|path| path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    fn nearest(&self, key: &str) -> String {
        let known = self.settings.keys().map(String::as_str).chain(OPEN_TABLES);
        known
            .min_by_key(|path| strsim::damerau_levenshtein(path, key))
            .unwrap_or_default()
            .to_owned()
    }
}

fn wrong_type(origin: Origin, key: String, expected: &'static str) -> LayerError {
    let example = match expected {
        "a text" => "\"value\"",
        "a whole number" => "1",
        "a number" => "1.0",
        "a table" => {
            return LayerError::WrongType {
                hint: format!("name a key in it, like {key}.name"),
                origin,
                key,
                expected,
            };
        }
        _ => "true",
    };
    LayerError::WrongType {
        origin,
        hint: format!("write it like {key} = {example}"),
        key,
        expected,
    }
}

fn type_words(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        _ => "true or false",
    }
}

/// The open table a path lies in, or is.
fn open_table_of(path: &str) -> Option<&'static str> {
    OPEN_TABLES.into_iter().find(|table| {
        path.strip_prefix(table)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The leaves of a table by dotted path; a table without any is its own leaf.
fn flatten(table: &Table) -> Vec<(String, Value)> {
    fn walk(prefix: &str, table: &Table, leaves: &mut Vec<(String, Value)>) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                Value::Table(inner) if !inner.is_empty() => walk(&path, inner, leaves),
                _ => leaves.push((path, value.clone())),
            }
        }
    }
    let mut leaves = Vec::new();
    walk("", table, &mut leaves);
    leaves
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
