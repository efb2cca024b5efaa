//! How wild a world is: drawn once per seed, so that some worlds are nearly quiet and others mad.

use crate::broker::Carry;
use crate::shelf::Disk;
use crate::store::{Put, Weather};
use peakdesk_model::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use rand::Rng;
use rand::rngs::SmallRng;

#[derive(Debug)]
pub struct Chaos {
    pub intakes: usize,
    pub scorers: usize,
    pub warehouses: usize,
    pub checkpoint_every_s: u64,
    pub slice_ms: i64,
    /// How long after the last record the world is still disturbed (ms).
    pub disturbed_after_ms: i64,
    /// How likely a member does nothing when it could, by member.
    pub lazy: [f64; 16],
    /// How likely a death is, given an occasion.
    pub deaths: f64,
    /// How likely an owner does not hear that its partition was given to another.
    pub unheard: f64,
    /// How likely a member that is alive is restarted when the world is healed.
    pub restarts_to_heal: f64,
    /// How likely a letter or a request meets a fault.
    mail: f64,
    store: f64,
    disk: f64,
}

fn one_of<T: Copy>(rng: &mut SmallRng, among: &[T]) -> T {
    among[rng.random_range(0..among.len())]
}

impl Chaos {
    pub fn draw(rng: &mut SmallRng) -> Self {
        Chaos {
            intakes: rng.random_range(1..=2),
            scorers: rng.random_range(1..=3),
            warehouses: rng.random_range(1..=2),
            checkpoint_every_s: one_of(rng, &[60, 600, 3_600, 20_000]),
            slice_ms: one_of(rng, &[5 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS]),
            disturbed_after_ms: one_of(rng, &[0, HOUR_MS, 20 * HOUR_MS]),
            lazy: std::array::from_fn(|_| one_of(rng, &[0.0, 0.0, 0.0, 0.5, 0.9])),
            deaths: one_of(rng, &[0.0, 0.3, 0.3, 1.0]),
            unheard: one_of(rng, &[0.0, 0.3, 1.0]),
            restarts_to_heal: one_of(rng, &[0.0, 0.5, 1.0]),
            mail: one_of(rng, &[0.0, 0.01, 0.05]),
            store: one_of(rng, &[0.0, 0.2, 0.6]),
            disk: one_of(rng, &[0.0, 0.1, 0.5]),
        }
    }

    pub fn time_passes(&self, rng: &mut SmallRng) -> i64 {
        match rng.random_range(0..20) {
            0 => rng.random_range(0..3 * HOUR_MS),
            1..5 => rng.random_range(0..50 * MINUTE_MS),
            5..10 => rng.random_range(0..5 * MINUTE_MS),
            _ => rng.random_range(0..10 * SECOND_MS),
        }
    }

    pub fn carry(&self, rng: &mut SmallRng) -> Carry {
        if !rng.random_bool(self.mail) {
            return Carry::Once;
        }
        one_of(rng, &[Carry::Twice, Carry::Twice, Carry::Unheard, Carry::Lost])
    }

    pub fn put(&self, rng: &mut SmallRng) -> Put {
        let torn = Put::Torn(rng.random_range(0..1_000));
        one_of(rng, &[Put::Good, Put::Fails, Put::Unheard, torn])
    }

    pub fn weather(&self, rng: &mut SmallRng) -> Weather {
        let bad = rng.random_bool(self.store);
        let put = match bad {
            false => Some(Put::Good),
            true if rng.random_bool(0.4) => None,
            true => Some(self.put(rng)),
        };
        Weather {
            put,
            list_fails: bad && rng.random_bool(0.3),
            get_fails: bad && rng.random_bool(0.3),
        }
    }

    pub fn disk(&self, rng: &mut SmallRng) -> Disk {
        if !rng.random_bool(self.disk) {
            return Disk::Takes;
        }
        one_of(rng, &[Disk::Refuses, Disk::TakesUnheard])
    }
}
