//! From the configuration to what the libraries take.

use anyhow::Context;
use peakdesk_intake::decode::Edge;
use peakdesk_intake::registry::{RegistryAddress, Schemas};
use peakdesk_model::input::Topic;
use peakdesk_runtime::config::{Config, TopicFormat};
use peakdesk_scoring::policy::{Constants, Policies, Policy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Said wherever buyer ids are hashed with the key that everybody knows.
pub const DEVELOPMENT_KEY_WARNING: &str =
    "warning: buyer ids are hashed with the development key, which is public: set intake.buyer_key_file before real data comes in";

/// The constants of the deployment.
pub fn constants(config: &Config) -> Constants {
    let s = &config.scoring;
    Constants {
        utc_offset: s.utc_offset,
        lateness_chat_ms: s.allowed_lateness_chat_ms,
        lateness_money_ms: s.allowed_lateness_money_ms,
        order_retention_ms: s.order_retention_ms,
        touch_retention_ms: s.touch_retention_ms,
        alert_step_ms: s.alert_step_ms,
        stall_patience_ms: s.stall_patience_ms,
    }
}

/// Reads a policy file.
pub fn policy(path: &Path, constants: &Constants) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read policy file {}", path.display()))?;
    Policy::parse(&text, constants).with_context(|| format!("policy file {}", path.display()))
}

/// The policies of all shops.
pub fn policies(config: &Config, constants: &Constants) -> anyhow::Result<Policies> {
    let default = match &config.policy.file {
        Some(path) => policy(path, constants)?,
        None => Policy::default(),
    };
    let mut by_shop = BTreeMap::new();
    for (shop, path) in &config.policy.shop_files {
        by_shop.insert(shop.clone(), policy(path, constants)?);
    }
    Ok(Policies::new(default, by_shop))
}

/// Where writers' schemas come from; with a registry, ours are registered there.
pub fn schemas(config: &Config) -> anyhow::Result<Schemas> {
    let Some(registry) = &config.schema_registry else {
        return Ok(Schemas::shipped()?);
    };
    let auth = registry
        .auth
        .as_ref()
        .map(|(user, password)| (user.clone(), password.reveal().clone()));
    let schemas = Schemas::of_registry(&RegistryAddress {
        url: registry.url.clone(),
        auth,
    });
    for topic in Topic::ALL {
        let input = config.topics.input(topic);
        if input.format == TopicFormat::Avro
            && let Err(error) = schemas.register_shipped(topic, &input.name)
        {
            // Writers may have registered theirs, and reading needs only those.
            tracing::warn!(%error, topic = input.name, "our schema is not registered");
        }
    }
    Ok(schemas)
}

/// The edge where records become events.
pub fn edge(config: &Config, schemas: Schemas) -> Edge {
    Edge {
        buyer_key: *config.intake.buyer_key.reveal(),
        future_skew_ms: config.scoring.future_skew_ms,
        order_retention_ms: config.scoring.order_retention_ms,
        schemas: Arc::new(schemas),
    }
}
