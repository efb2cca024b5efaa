//! Where writers' schemas come from: the shipped ones, or a schema registry with Confluent's HTTP API.
//!
//! What to do about a failure is in the type: [`SchemaError::Unavailable`] is retried and nothing is dead-lettered for it;
//! an id the registry denies, or a schema nobody can decode with, makes the record undecodable.
//!
//! | the registry answers | outcome |
//! | --- | --- |
//! | 200 with an Avro record schema | usable, kept for the life of the process: ids never change their meaning |
//! | 200 with anything else, a schema that refers to others | [`SchemaError::Unusable`] |
//! | 404 with the API's own error body (`error_code`) | [`SchemaError::Unknown`] |
//! | any other status, a 404 of some proxy, no answer in time | [`SchemaError::Unavailable`] |
//!
//! Calls block for at most [`CALL_TIMEOUT`]; they are made on the threads that read Kafka, never on a tokio worker.

use crate::schema::{self, WriterSchema};
use base64::Engine as _;
use peakdesk_model::input::Topic;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// One call to the registry, from looking up its host to the last byte.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Schema texts are a few KiB; anything near this is not one.
const BODY_LEN_MAX: u64 = 4 << 20;

/// An id that was refused is asked for again after this long: a registry that replicates may learn it a little later than the
/// writer. A flood of bad ids costs one call per id in this time.
const REFUSAL_KEPT: Duration = Duration::from_secs(30);

/// Refusals kept at once; ids come from whoever can write to the topic.
const REFUSALS_MAX: usize = 10_000;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Nobody registered this id.
    #[error("schema id {id} is unknown")]
    Unknown {
        /// As in the record's framing.
        id: u32,
    },
    /// There is a schema, but not one that records can be decoded with.
    #[error("schema id {id} cannot be used: {why}")]
    Unusable {
        /// As in the record's framing.
        id: u32,
        /// What is wrong with it.
        why: String,
    },
    /// The registry did not answer, or not as a registry does. Retry.
    #[error("schema registry {url} is not available: {why}")]
    Unavailable {
        /// The request.
        url: String,
        /// What came instead of an answer.
        why: String,
    },
    /// The registry refused to register a schema of ours.
    #[error("schema registry refused the schema for subject {subject}: {why}; check the subject's compatibility level and its versions")]
    Rejected {
        /// The subject.
        subject: String,
        /// The registry's words.
        why: String,
    },
}

impl SchemaError {
    /// Whether the same question may be answered later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, SchemaError::Unavailable { .. })
    }
}

/// How to reach a registry.
#[derive(Clone)]
pub struct RegistryAddress {
    /// Base address, such as `http://registry:8081`; a path is kept.
    pub url: String,
    /// User and password for HTTP basic authentication.
    pub auth: Option<(String, String)>,
}

impl std::fmt::Debug for RegistryAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAddress")
            .field("url", &self.url)
            .field("auth", &self.auth.as_ref().map(|(user, _)| (user, "(secret)")))
            .finish()
    }
}

enum Entry {
    Usable(Arc<WriterSchema>),
    Refused { error: SchemaError, at: Instant },
}

/// Schemas by id. Shared by all threads of a process.
pub struct Schemas {
    registry: Option<Client>,
    known: RwLock<HashMap<u32, Entry>>,
}

impl Schemas {
    /// The shipped schemas under their fixed ids ([`schema::shipped_id`]).
    pub fn shipped() -> Result<Self, SchemaError> {
        Schemas::fixed(Topic::ALL.map(|topic| (schema::shipped_id(topic), schema::shipped(topic))))
    }

    /// These schemas, by id, and no others.
    pub fn fixed<'s>(schemas: impl IntoIterator<Item = (u32, &'s str)>) -> Result<Self, SchemaError> {
        let mut known = HashMap::new();
        for (id, text) in schemas {
            known.insert(id, Entry::Usable(Arc::new(parse(id, text)?)));
        }
        Ok(Schemas {
            registry: None,
            known: RwLock::new(known),
        })
    }

    /// The schemas of a registry. Asks it nothing yet.
    pub fn of_registry(address: &RegistryAddress) -> Self {
        Schemas {
            registry: Some(Client::new(address)),
            known: RwLock::new(HashMap::new()),
        }
    }

    /// The schema a record was written with.
    pub fn get(&self, id: u32) -> Result<Arc<WriterSchema>, SchemaError> {
        match self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            Some(Entry::Usable(schema)) => return Ok(Arc::clone(schema)),
            Some(Entry::Refused { error, at }) if at.elapsed() < REFUSAL_KEPT => return Err(error.clone()),
            _ => {}
        }
        let Some(registry) = &self.registry else {
            return Err(SchemaError::Unknown { id });
        };
        let answer = registry.schema(id).and_then(|text| parse(id, &text).map(Arc::new));
        self.remember(id, &answer);
        answer
    }

    /// Registers the shipped schema of `topic` for the values of the Kafka topic `kafka_topic`, under the subject name that
    /// Confluent's clients use (`TOPIC-value`), and gives the id for framing. Without a registry: the shipped id.
    pub fn register_shipped(&self, topic: Topic, kafka_topic: &str) -> Result<u32, SchemaError> {
        match &self.registry {
            Some(registry) => registry.register(&format!("{kafka_topic}-value"), schema::shipped(topic)),
            None => Ok(schema::shipped_id(topic)),
        }
    }

    fn remember(&self, id: u32, answer: &Result<Arc<WriterSchema>, SchemaError>) {
        let entry = match answer {
            Ok(schema) => Entry::Usable(Arc::clone(schema)),
            Err(error) if error.is_retriable() => return,
            Err(error) => Entry::Refused {
                error: error.clone(),
                at: Instant::now(),
            },
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let refusals = |known: &HashMap<u32, Entry>| known.values().filter(|entry| matches!(entry, Entry::Refused { .. })).count();
        if matches!(entry, Entry::Refused { .. }) && known.len() >= REFUSALS_MAX && refusals(&known) >= REFUSALS_MAX {
            known.retain(|_, entry| matches!(entry, Entry::Usable(_)));
        }
        known.insert(id, entry);
    }
}

fn parse(id: u32, text: &str) -> Result<WriterSchema, SchemaError> {
    WriterSchema::parse(text).map_err(|error| SchemaError::Unusable {
        id,
        why: error.to_string(),
    })
}

struct Client {
    base: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

#[derive(Deserialize)]
struct SchemaBody {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
}

#[derive(Deserialize)]
struct IdBody {
    id: u32,
}

#[derive(Deserialize)]
struct ErrorBody {
    error_code: i64,
    #[serde(default)]
    message: String,
}

struct Answer {
    url: String,
    status: u16,
    body: String,
}

impl Client {
    fn new(address: &RegistryAddress) -> Self {
        let tls = ureq::tls::TlsConfig::builder()
            .provider(ureq::tls::TlsProvider::NativeTls)
            .root_certs(ureq::tls::RootCerts::PlatformVerifier)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .build();
        let base64 = base64::engine::general_purpose::STANDARD;
        Client {
            base: address.url.trim_end_matches('/').to_owned(),
            authorization: address
                .auth
                .as_ref()
                .map(|(user, password)| format!("Basic {}", base64.encode(format!("{user}:{password}")))),
            agent: config.into(),
        }
    }

    fn schema(&self, id: u32) -> Result<String, SchemaError> {
        let answer = self.call(&format!("schemas/ids/{id}"), None)?;
        match answer.status {
            200 => {
                let body: SchemaBody = answer.parse()?;
                match body.schema_type.as_deref() {
                    None | Some("AVRO") => Ok(body.schema),
                    Some(other) => Err(SchemaError::Unusable {
                        id,
                        why: format!("it is of type {other}, not AVRO"),
                    }),
                }
            }
            404 if answer.error().is_some() => Err(SchemaError::Unknown { id }),
            _ => Err(answer.unavailable()),
        }
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, SchemaError> {
        let request = serde_json::json!({ "schema": schema }).to_string();
        let answer = self.call(&format!("subjects/{subject}/versions"), Some(&request))?;
        match answer.status {
            200 => Ok(answer.parse::<IdBody>()?.id),
            409 | 422 => {
                let why = answer
                    .error()
                    .map_or_else(|| format!("status {}", answer.status), |error| error.message);
                Err(SchemaError::Rejected {
                    subject: subject.to_owned(),
                    why,
                })
            }
            _ => Err(answer.unavailable()),
        }
    }

    /// GET without a request body, POST with one.
    fn call(&self, path: &str, request: Option<&str>) -> Result<Answer, SchemaError> {
        let url = format!("{}/{path}", self.base);
        let sent = match request {
            None => self.authorized(self.agent.get(&url)).header("accept", CONTENT_TYPE).call(),
            Some(body) => self
                .authorized(self.agent.post(&url))
                .header("accept", CONTENT_TYPE)
                .content_type(CONTENT_TYPE)
                .send(body),
        };
        let received = sent.and_then(|mut response| {
            let body = response.body_mut().with_config().limit(BODY_LEN_MAX).read_to_string()?;
            Ok((response.status().as_u16(), body))
        });
        match received {
            Ok((status, body)) => Ok(Answer { url, status, body }),
            Err(error) => Err(SchemaError::Unavailable {
                url,
                why: error.to_string(),
            }),
        }
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }
}

impl Answer {
    fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, SchemaError> {
        serde_json::from_str(&self.body).map_err(|error| SchemaError::Unavailable {
            url: self.url.clone(),
            why: format!("the answer is not a schema registry's: {error}; check schema_registry.url and its path"),
        })
    }

    fn error(&self) -> Option<ErrorBody> {
        serde_json::from_str::<ErrorBody>(&self.body)
            .ok()
            .filter(|error| error.error_code != 0)
    }

    fn unavailable(&self) -> SchemaError {
        let hint = match self.status {
            401 | 403 => "; check the user and password of [schema_registry]",
            404 => "; check schema_registry.url and its path",
            _ => "",
        };
        SchemaError::Unavailable {
            url: self.url.clone(),
            why: format!("status {}{hint}", self.status),
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
