//! Shops and agents as they are before the first buyer comes.

use rand::Rng;
use rand_distr::{Beta, Distribution};

use crate::config::{Profile, SimConfig};
use crate::dist::{SimRng, between, chance, log_normal, pick};

/// How fast an agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skill {
    Fast,
    Normal,
    Weak,
}

/// A person who answers buyers.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) skill: Skill,
    /// Share of inquiring buyers who order if nobody lets them wait.
    pub(crate) conversion: f64,
    /// Conversations going on.
    pub(crate) open: u32,
}

/// Conversations an agent can have at once without getting slower.
pub(crate) const OPEN_LIMIT: f64 = 12.0;

/// A buyer who talked to the shop and may come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) buyer: u32,
    pub(crate) welcomed_day: i64,
}

/// Remembered buyers per list; enough that a pick is seldom the same, small enough that memory does not matter.
const REMEMBERED: usize = 512;

/// A shop with everything that changes while it sells.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) id: String,
    pub(crate) agents: Vec<Agent>,
    /// Conversations and silent orders per mean day.
    pub(crate) conversations_per_day: f64,
    pub(crate) silent_orders_per_day: f64,
    pub(crate) refund_share: f64,
    pub(crate) robot_conversion: f64,
    /// Volume up to which conversations and silent orders have come.
    pub(crate) chat_volume: f64,
    pub(crate) order_volume: f64,
    pub(crate) buyers: u32,
    pub(crate) orders: u32,
    pub(crate) refunds: u32,
    pub(crate) chat_events: u64,
    pub(crate) order_events: u64,
    pub(crate) refund_events: u64,
    /// Buyers whose conversation has ended.
    pub(crate) recent: Vec<Known>,
    /// Buyers with a paid order.
    pub(crate) paid: Vec<u32>,
}

/// Silent orders per conversation of a mean day, chosen so that they make about three quarters of all orders. On the sale more,
/// because those who talked on the eve order then too.
fn silent_per_conversation(profile: Profile) -> f64 {
    match profile {
        Profile::Double11 => 1.3,
        Profile::Ordinary => 1.0,
    }
}

impl Shop {
    pub(crate) fn new_buyer(&mut self) -> u32 {
        self.buyers += 1;
        self.buyers
    }

    /// Remembers a buyer who may come back to talk.
    pub(crate) fn remember(&mut self, rng: &mut SimRng, known: Known) {
        remember(rng, &mut self.recent, known);
    }

    /// Remembers a buyer who may come back about an order.
    pub(crate) fn remember_paid(&mut self, rng: &mut SimRng, buyer: u32) {
        remember(rng, &mut self.paid, buyer);
    }

    /// Takes a remembered buyer out, so that no buyer has two conversations at once through this list.
    pub(crate) fn take_recent(&mut self, rng: &mut SimRng) -> Option<Known> {
        if self.recent.is_empty() {
            return None;
        }
        Some(self.recent.swap_remove(rng.random_range(0..self.recent.len())))
    }

    /// A buyer with a paid order.
    pub(crate) fn any_paid(&self, rng: &mut SimRng) -> Option<u32> {
        pick(rng, &self.paid).copied()
    }

    /// The less busy one of two agents drawn at random.
    pub(crate) fn choose_agent(&self, rng: &mut SimRng) -> usize {
        let one = rng.random_range(0..self.agents.len());
        let two = rng.random_range(0..self.agents.len());
        let open = |index: usize| self.agents.get(index).map_or(u32::MAX, |agent| agent.open);
        if open(two) < open(one) { two } else { one }
    }
}

fn remember<T>(rng: &mut SimRng, list: &mut Vec<T>, item: T) {
    if list.len() < REMEMBERED {
        list.push(item);
    } else if let Some(place) = list.get_mut(rng.random_range(0..REMEMBERED)) {
        *place = item;
    }
}

/// All shops of a run. With a fixed number of agents they are alike; otherwise sizes and activity are skewed so that few
/// shops carry most messages. In both cases the mean of buyers per agent is as configured.
pub(crate) fn open_shops(config: &SimConfig, rng: &mut SimRng) -> Vec<Shop> {
    let zipf = zipf_cumulative();
    let sizes: Vec<u32> = (0..config.shops)
        .map(|_| config.agents.unwrap_or_else(|| draw_size(rng, &zipf)))
        .collect();
    let mut activity: Vec<f64> = sizes.iter().map(|&size| draw_activity(config, rng, size)).collect();
    // Cap and mean pull against each other; a few rounds settle it.
    let cap = 3.0;
    for _ in 0..6 {
        let agents: f64 = sizes.iter().map(|&size| f64::from(size)).sum();
        let buyers: f64 = sizes.iter().zip(&activity).map(|(&size, factor)| f64::from(size) * factor).sum();
        for factor in &mut activity {
            *factor = (*factor * agents / buyers.max(1e-9)).min(cap);
        }
    }
    let buyers_mean = config.buyers_per_agent_mean();
    sizes
        .iter()
        .zip(activity)
        .zip(1..)
        .map(|((&size, factor), number)| open_shop(config, rng, number, size, buyers_mean * factor))
        .collect()
}

fn open_shop(config: &SimConfig, rng: &mut SimRng, number: u32, size: u32, buyers_per_agent: f64) -> Shop {
    let conversations = f64::from(size) * buyers_per_agent;
    // Fashion, electronics, food, everything else.
    let refund_share = match between(rng, 0, 20) {
        0..4 => 0.45,
        4..8 => 0.08,
        8..13 => 0.03,
        _ => 0.12,
    };
    Shop {
        id: format!("s{number}"),
        agents: (1..=size).map(|agent| hire(rng, agent)).collect(),
        conversations_per_day: conversations,
        silent_orders_per_day: conversations * silent_per_conversation(config.profile),
        refund_share,
        robot_conversion: 0.25 + 0.2 * rng.random::<f64>(),
        chat_volume: 0.0,
        order_volume: 0.0,
        buyers: 0,
        orders: 0,
        refunds: 0,
        chat_events: 0,
        order_events: 0,
        refund_events: 0,
        recent: Vec::new(),
        paid: Vec::new(),
    }
}

fn hire(rng: &mut SimRng, number: u32) -> Agent {
    let skill = match between(rng, 0, 20) {
        0..6 => Skill::Fast,
        6..17 => Skill::Normal,
        _ => Skill::Weak,
    };
    let conversion = Beta::new(3.0, 3.0).map_or(0.5, |beta| beta.sample(rng));
    Agent {
        id: format!("a{number}"),
        skill,
        conversion,
        open: 0,
    }
}

/// Cumulated weights of 1..=200 agents, Zipf with s = 1.1.
fn zipf_cumulative() -> Vec<f64> {
    let mut sum = 0.0;
    (1..=200)
        .map(|size| {
            sum += f64::from(size).powf(-1.1);
            sum
        })
        .collect()
}

fn draw_size(rng: &mut SimRng, zipf: &[f64]) -> u32 {
    if chance(rng, 0.001) {
        return between(rng, 100, 301) as u32;
    }
    let total = zipf.last().copied().unwrap_or(1.0);
    let draw = rng.random::<f64>() * total;
    (zipf.partition_point(|&sum| sum <= draw) as u32 + 1).min(200)
}

/// Large shops are busier per agent; many small ones have next to nothing to do. The figures give 5 % of the shops about
/// 60 % of the messages.
fn draw_activity(config: &SimConfig, rng: &mut SimRng, size: u32) -> f64 {
    if config.agents.is_some() {
        return 1.0;
    }
    log_normal(rng, 0.45 * (f64::from(size) / 28.0).powf(0.5), 1.8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn few_shops_carry_most_and_the_mean_holds() {
        for seed in [1, 2, 3] {
            let config = SimConfig {
                shops: 2_000,
                ..SimConfig::default()
            };
            let shops = open_shops(&config, &mut SimRng::seed_from_u64(seed));
            let mut volumes: Vec<f64> = shops.iter().map(|shop| shop.conversations_per_day).collect();
            volumes.sort_by(|a, b| b.total_cmp(a));
            let total: f64 = volumes.iter().sum();
            let top = volumes.iter().take(100).sum::<f64>() / total;
            assert!((0.5..0.7).contains(&top), "seed {seed}: 5 % of shops carry {top}");
            let agents: usize = shops.iter().map(|shop| shop.agents.len()).sum();
            let mean = total / agents as f64;
            assert!((475.0..=501.0).contains(&mean), "seed {seed}: {mean} buyers per agent");
        }
    }

    #[test]
    fn conversion_of_agents_is_spread() {
        let config = SimConfig {
            shops: 50,
            agents: Some(100),
            ..SimConfig::default()
        };
        let shops = open_shops(&config, &mut SimRng::seed_from_u64(4));
        let mut rates: Vec<f64> = shops
            .iter()
            .flat_map(|shop| shop.agents.iter().map(|agent| agent.conversion))
            .collect();
        rates.sort_by(f64::total_cmp);
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        let at = |share: f64| rates.get((rates.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        assert!(
            (0.16..0.22).contains(&at(0.05)) && (0.78..0.84).contains(&at(0.95)),
            "{} {}",
            at(0.05),
            at(0.95)
        );
    }
}
