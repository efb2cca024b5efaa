//! What conversations are made of: chat records and the pauses between them, and spam, which is no conversation.

use peakdesk_model::input::{ChatRecord, Topic};

use crate::config::{HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::dist::{between, chance, geometric, log_normal_ms, log_uniform};
use crate::order::Scene;
use crate::outbox::Flags;
use crate::record::SimBody;
use crate::text::{Voice, say};

/// The platform's name of a buyer. Numbers are per shop: the same id in two shops is two buyers.
pub(crate) fn buyer_id(buyer: u32) -> String {
    format!("b{buyer}")
}

/// Advertising, peers, tests: one to three messages that no buyer wrote. Sometimes an agent answers all the same.
pub(crate) fn send_spam(scene: &mut Scene<'_>, buyer: u32, at_ms: i64) {
    let mut at = at_ms;
    let agent = chance(scene.rng, 0.5).then(|| scene.shop.choose_agent(scene.rng));
    for _ in 0..between(scene.rng, 1, 4) {
        let mut record = blank(scene, buyer, at, "BUYER_MESSAGE");
        record.text = Some(say(scene.rng, Voice::Spam));
        record.agent_id = agent.and_then(|agent| agent_id(scene, agent));
        record.spam = Some(true);
        send(scene, record, false);
        at += gap(scene);
    }
    if let Some(agent) = agent
        && chance(scene.rng, 0.2)
    {
        let mut record = blank(scene, buyer, at + 5 * SECOND_MS, "AGENT_MESSAGE");
        record.text = Some(say(scene.rng, Voice::Agent));
        record.agent_id = agent_id(scene, agent);
        send(scene, record, false);
    }
}

/// A chat record of the given kind with the next event id of the shop.
pub(crate) fn blank(scene: &mut Scene<'_>, buyer: u32, at: i64, kind: &str) -> ChatRecord {
    scene.shop.chat_events += 1;
    ChatRecord {
        event_id: format!("c{}", scene.shop.chat_events),
        shop_id: scene.shop.id.clone(),
        buyer_id: buyer_id(buyer),
        kind: kind.to_owned(),
        event_time: at,
        ..ChatRecord::default()
    }
}

/// Sends a chat record on its way; `ends_round` marks the first reply to what a buyer asked.
pub(crate) fn send(scene: &mut Scene<'_>, record: ChatRecord, ends_round: bool) {
    let key = format!("{}:{}", record.shop_id, record.buyer_id);
    let at = record.event_time;
    let flags = Flags {
        ends_round,
        ..Flags::default()
    };
    scene.outbox.send(scene.rng, Topic::Chat, key, at, SimBody::Chat(record), flags);
}

/// The agent's id, by the index within the shop.
pub(crate) fn agent_id(scene: &Scene<'_>, agent: usize) -> Option<String> {
    scene.shop.agents.get(agent).map(|agent| agent.id.clone())
}

/// Messages a buyer sends in a row: 1.6 in the mean, at most 10.
pub(crate) fn burst(scene: &mut Scene<'_>) -> u32 {
    (1 + geometric(scene.rng, 0.6)).min(10)
}

/// Between two messages of a burst.
pub(crate) fn gap(scene: &mut Scene<'_>) -> i64 {
    log_normal_ms(scene.rng, 3_500.0, 0.8, 400, 5 * MINUTE_MS)
}

/// Between a reply and the buyer's next question; now and then long enough to begin a new session.
pub(crate) fn think(scene: &mut Scene<'_>) -> i64 {
    if chance(scene.rng, 0.02) {
        return log_uniform(scene.rng, 10 * MINUTE_MS, 2 * HOUR_MS);
    }
    log_normal_ms(scene.rng, 18_000.0, 1.0, 2_000, 8 * MINUTE_MS)
}
