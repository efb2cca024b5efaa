//! The row of a transition, with the buyers, rounds or refunds behind it.

use super::evaluate::Said;
use super::watch::AgentWatch;
use crate::cohort::PAID_1D;
use crate::machine::{Agent, SHOP};
use crate::output::text;
use crate::shop::{Context, Shop};
use peakdesk_model::alert::{AlertRow, Rule};
use peakdesk_model::position::LogPosition;
use peakdesk_model::table::Stamp;
use peakdesk_model::time::{HOUR_MS, MINUTE_MS};
use serde_json::{Value, json};

/// Things named in a row.
const EVIDENCE_MAX: usize = 5;
/// Buyers of a day that are looked at in search of some.
const SEARCH_MAX: usize = 2_000;

impl Shop {
    /// The row of what was said of a scope at `t` (ms); its position is given when all rows of the moment are there.
    pub(super) fn alert_row(&self, t: i64, said: &Said, cx: &Context<'_>) -> AlertRow {
        let agent_id = if said.scope == SHOP {
            None
        } else {
            text(&self.agents, Some(said.scope))
        };
        let onset = said.transition.onset;
        let day = cx.constants.utc_offset.day(onset);
        AlertRow {
            stamp: Stamp {
                policy: cx.policy.label(day).clone(),
                is_final: true,
                published_at: t,
                dt: day,
                position: LogPosition::start_of(0),
            },
            alert_id: AlertRow::id_of(said.rule, &self.id, agent_id.as_deref(), onset).into(),
            transition: said.transition.number,
            kind: said.transition.kind,
            rule: said.rule,
            shop_id: self.id.clone(),
            agent_id,
            severity: said.transition.severity,
            value_num: said.num,
            value_den: said.den,
            onset,
            at: t,
            evidence: Value::Array(self.evidence(t, said.rule, said.scope, cx)).to_string().into(),
        }
    }

    fn evidence(&self, t: i64, rule: Rule, scope: Agent, cx: &Context<'_>) -> Vec<Value> {
        let watch = &self.windows.watch;
        let agent = watch.agent_if(scope);
        match rule {
            Rule::BuyerWaiting | Rule::ManyWaiting | Rule::ShopWaiting => {
                let waits = match (rule, agent) {
                    (Rule::ShopWaiting, _) => &watch.all,
                    (_, Some(agent)) => &agent.waits,
                    (_, None) => &watch.queue,
                };
                let begun = waits.iter().take_while(|(since, _)| *since <= t).take(EVIDENCE_MAX);
                begun
                    .map(|(since, buyer)| json!({"buyer_key": self.buyer_hex(buyer), "since": since, "age_ms": t - since}))
                    .collect()
            }
            Rule::ReplyRate3minLow => self.rounds(agent, t - HOUR_MS - 3 * MINUTE_MS, t - 3 * MINUTE_MS),
            Rule::RepliesSlow => self.rounds(agent, t - 15 * MINUTE_MS, t),
            Rule::ReplyRate5minLow => {
                let begun = watch
                    .all
                    .iter()
                    .take_while(|(since, _)| *since < t - 5 * MINUTE_MS)
                    .take(EVIDENCE_MAX);
                begun
                    .map(|(since, buyer)| json!({"buyer_key": self.buyer_hex(buyer), "since": since, "age_ms": t - since}))
                    .collect()
            }
            Rule::ConversionLow => self.unpaid(scope, t, cx),
            Rule::RefundSpike => {
                let recent = watch.last_refunds.iter().rev().take_while(|(at, _)| *at >= t - HOUR_MS);
                recent.take(EVIDENCE_MAX).map(|(at, refund)| self.refund(*refund, *at, t)).collect()
            }
            Rule::RefundPromiseAtRisk => {
                let requests = watch.requests.iter().take_while(|(since, _)| *since <= t).take(EVIDENCE_MAX);
                requests.map(|(since, refund)| self.refund(refund, since, t)).collect()
            }
        }
    }

    fn buyer_hex(&self, buyer: u32) -> String {
        self.buyers.get(buyer).map_or(String::new(), |b| b.key.to_hex())
    }

    fn refund(&self, refund: u32, since: i64, t: i64) -> Value {
        let slot = self.refunds.get(refund);
        let order = slot
            .and_then(|s| s.facts.iter().rev().flatten().next())
            .and_then(|f| self.orders.get(f.life.order))
            .map(|o| o.id.to_string());
        json!({"refund_id": slot.map(|s| s.id.to_string()), "order_id": order, "requested_at": since, "age_ms": t - since})
    }

    /// Rounds whose agent clock lies in `[from, to)` (ms), worst first: the unanswered, then the slowest.
    fn rounds(&self, agent: Option<&AgentWatch>, from: i64, to: i64) -> Vec<Value> {
        let Some(agent) = agent else { return Vec::new() };
        let open = agent.waits.iter().filter(|(a0, _)| (from..to).contains(a0));
        let open = open.map(|(a0, buyer)| (i64::MAX, a0, a0, buyer));
        let closed = agent.notable.range((from, i64::MIN, 0)..(to, i64::MIN, 0));
        let closed = closed.map(|((a0, t0, buyer), n)| (n.ended_at.map_or(i64::MAX, |e| e - a0), *a0, *t0, *buyer));
        let mut rounds: Vec<(i64, i64, i64, u32)> = open.chain(closed).collect();
        rounds.sort_by_key(|(latency, a0, ..)| (std::cmp::Reverse(*latency), *a0));
        let latency = |ms: i64| (ms != i64::MAX).then_some(ms);
        rounds
            .into_iter()
            .take(EVIDENCE_MAX)
            .map(|(ms, a0, t0, buyer)| json!({"buyer_key": self.buyer_hex(buyer), "t0": t0, "a0": a0, "latency_ms": latency(ms)}))
            .collect()
    }

    /// Inquiry buyers of the day whom the agent served and who have not paid.
    fn unpaid(&self, agent: Agent, t: i64, cx: &Context<'_>) -> Vec<Value> {
        let day = cx.constants.utc_offset.day(t);
        let buyers = self.day_buyers.get(&day).map_or(&[][..], Vec::as_slice);
        let unpaid = |place: &u32| {
            let buyer = self.buyers.get(*place)?;
            let d = buyer.days.iter().find(|d| d.day == day && d.first_at < t - HOUR_MS)?;
            let outcome = d.outcome.as_ref().filter(|o| o.is_inquiry)?;
            let (_, flags) = outcome.agents.iter().find(|(a, _)| *a == agent)?;
            (flags & PAID_1D == 0).then(|| json!({"buyer_key": buyer.key.to_hex(), "since": d.first_at, "age_ms": t - d.first_at}))
        };
        buyers.iter().take(SEARCH_MAX).filter_map(unpaid).take(EVIDENCE_MAX).collect()
    }
}
