//! What the tests of checkpoints share: traffic that goes on while scorers come and go, and a look at what is stored.

use std::path::{Path, PathBuf};

use peakdesk_tests::object_store::stored;
use peakdesk_tests::{Kafka, Process, Result, Scene, ensure, wait_until};

use crate::support::{LONG, Role, SOON, Topics, compare, replay, text};

/// Partitions of the shop log.
pub const PARTITIONS: usize = 4;

/// Records in each input topic without which a comparison says little.
const RECORDS_MIN: i64 = 50;

/// Partitions of chat, orders and refunds.
pub const SOURCES: [i32; 3] = [2, 1, 1];

/// Traffic, and all roles but the scorers.
pub struct Stage<'s> {
    scene: &'s Scene,
    /// Topics and settings.
    pub topics: Topics<'s>,
    simulator: Process,
    /// The intake; a test may put another in its place.
    pub intake: Role,
    warehouse: Role,
    tables: PathBuf,
}

impl<'s> Stage<'s> {
    /// Begins a simulated day at this speed.
    pub fn begin(scene: &'s Scene, topics: Topics<'s>, speed_up: &str) -> Result<Stage<'s>> {
        Self::begin_over(scene, topics, speed_up, SOURCES)
    }

    /// The same over so many partitions of chat, orders and refunds.
    pub fn begin_over(scene: &'s Scene, topics: Topics<'s>, speed_up: &str, sources: [i32; 3]) -> Result<Stage<'s>> {
        topics.create(sources, &[])?;
        let sources = sources.map(|count| count.to_string()).join(",");
        let flags = [
            "--shops",
            "8",
            "--agents",
            "3",
            "--buyers-per-agent",
            "60",
            "--duration",
            "1d",
            "--start",
            "2025-11-10T20:00",
            "--partitions",
            &sources,
            "--speed-up",
            speed_up,
        ];
        let simulator = topics.simulate("simulator", &flags)?;
        let tables = scene.path("live");
        let intake = topics.role("intake", "intake", &[])?;
        let warehouse = topics.role("warehouse", "warehouse", &[format!("warehouse.output={}", text(&tables)?)])?;
        Ok(Stage {
            scene,
            topics,
            simulator,
            intake,
            warehouse,
            tables,
        })
    }

    /// Starts a scorer that takes checkpoints this often; with one thread, so that it is one member of its group.
    pub fn scorer(&self, name: &str, every: &str) -> Result<Role> {
        let every = format!("checkpoint.every={every}");
        self.topics.role_with(name, "scorer", &["--threads", "1"], &[every])
    }

    /// Fails if the traffic is over: what a test did was then not done under load.
    pub fn still_runs(&mut self) -> Result {
        ensure!(
            self.simulator.ended()?.is_none(),
            "the simulator is done already: use a lower speed"
        );
        Ok(())
    }

    /// Ends the traffic before its time, once there is something of everything to compare.
    pub fn end_load(&mut self) -> Result {
        wait_until("enough records of every kind", LONG, || {
            let records = self.topics.records()?;
            ensure!(records.iter().all(|count| *count > RECORDS_MIN), "{records:?}");
            Ok(Some(()))
        })?;
        self.still_runs()?;
        self.simulator.terminate().map(drop)
    }

    /// The end of each partition of the shop log.
    pub fn log_ends(&self) -> Result<Vec<i64>> {
        Kafka::shared()?.high_watermarks(&self.scene.name("shop-log"))
    }

    /// Waits for the end of the traffic and of all that follows from it; the tables must be those of a replay.
    pub fn tables_are_those_of_a_replay(mut self, scorers: &mut [Role]) -> Result {
        ensure!(
            self.simulator.wait(LONG)?.success(),
            "the simulator failed: {}",
            self.simulator.stderr()?
        );
        self.topics.wait_until_forwarded(&mut || self.intake.process.alive())?;
        let records = self.topics.records()?;
        ensure!(
            records.iter().all(|count| *count > RECORDS_MIN),
            "too little was simulated: {records:?}"
        );
        self.topics.finish(vec![self.intake], scorers, &mut self.warehouse)?;
        let (dump, again) = (self.scene.path("dump"), self.scene.path("again"));
        self.topics.dump(&dump)?;
        println!("{}", replay(self.scene, &dump, &again, &[])?);
        let compared = ["--products", text(&self.tables)?, text(&again)?, "--ignore-position"];
        compare(self.scene, &compared).map(|_| ())
    }
}

/// Waits until so many checkpoints of every partition are stored.
pub fn wait_until_stored(root: &Path, count: usize) -> Result {
    wait_until(&format!("{count} checkpoints of every partition"), LONG, || {
        let counts: Vec<usize> = (0..PARTITIONS).map(|p| stored(root, p).map(|s| s.len())).collect::<Result<_>>()?;
        ensure!(counts.iter().all(|n| *n >= count), "{counts:?}");
        Ok(Some(()))
    })
}

/// The sum of a metric of the scorer.
pub fn count(scorer: &mut Role, what: &str, labels: &str) -> Result<f64> {
    Ok(scorer.metric(&format!("peakdesk_scorer_{what}"), labels)?.iter().sum())
}

/// Waits until a scorer has begun as many partitions in this way.
pub fn wait_until_restored(scorer: &mut Role, outcome: &str, partitions: usize) -> Result {
    wait_until(&format!("{partitions} partitions begun from {outcome}"), SOON, || {
        let labels = format!("outcome=\"{outcome}\"");
        let n = count(scorer, "restores_total", &labels)?;
        ensure!(
            n == partitions as f64,
            "{n}; all: {:?}",
            scorer.metric("peakdesk_scorer_restores_total", "")?
        );
        Ok(Some(()))
    })
}
