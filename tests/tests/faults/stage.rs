//! What a fault is injected into: a simulation into Kafka, and every role with two members that share the work.
//!
//! ```text
//! begin ─► (fault, recovered)* ─► end: all is read and final ─► judge: equal to an undisturbed run?
//! ```
//!
//! Its checkpoints are in a bucket, taken often, so that whoever dies has one to go on from.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use peakdesk_tests::object_store::{ACCESS_KEY, REGION, SECRET_KEY};
use peakdesk_tests::support::{INPUTS, LONG, Role, Topics, complete_until_ms, text};
use peakdesk_tests::{Context, Failure, Process, Result, Scene, bail, ensure, wait_until};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::store::BUCKET;
use crate::{Plant, Tally, judge};

/// Partitions of chat, orders and refunds.
pub const PARTITIONS: [i32; 3] = [4, 2, 1];

/// For a line to be noticed, a member to be missed and its partitions to be taken over.
const OPTIONS: [&str; 3] = [
    "session.timeout.ms=3000",
    "socket.timeout.ms=3000",
    "topic.metadata.refresh.interval.ms=1000",
];

/// What a stage is made of.
pub struct Plan {
    /// Simulated seconds per second.
    pub speed: u32,
    /// Members of each role: intakes, scorers, warehouses.
    pub members: [usize; 3],
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            speed: 1_000,
            members: [2, 2, 2],
        }
    }
}

/// A process of a role that is started again after each death.
pub struct Member {
    /// Such as `scorer-1`.
    pub name: String,
    /// Subcommand.
    pub role: &'static str,
    settings: Vec<String>,
    running: Option<Role>,
    starts: usize,
}

impl Member {
    /// The running process.
    pub fn process(&mut self) -> Result<&mut Process> {
        Ok(&mut self.running.as_mut().context("not running")?.process)
    }

    /// A metric's values; see [`Role::metric`].
    pub fn metric(&mut self, name: &str, labels: &str) -> Result<Vec<f64>> {
        self.running.as_mut().context("not running")?.metric(name, labels)
    }
}

/// A running system.
pub struct Stage<'s> {
    /// Its scene.
    pub scene: &'s Scene,
    /// Its topics.
    pub topics: Topics<'s>,
    /// Where its warehouses write.
    pub output: PathBuf,
    /// What happened so far.
    pub tally: Tally,
    /// The way of the roles to the broker.
    bootstrap: String,
    members: Vec<Member>,
    simulators: Vec<Process>,
}

impl<'s> Stage<'s> {
    /// Topics, a simulation, and roles that work on it.
    pub fn begin(scene: &'s Scene, plant: &Plant, plan: &Plan) -> Result<Stage<'s>> {
        let mut stage = Stage::prepare(scene, plant)?;
        stage.open(plan)?;
        Ok(stage)
    }

    /// The same of what is prepared.
    pub fn open(&mut self, plan: &Plan) -> Result {
        self.topics.create(PARTITIONS, &[])?;
        // It is ended when the faults are over.
        self.simulate("simulator", "2025-11-10T20:00", "40d", plan.speed)?;
        self.join(plan)
    }

    /// Names, and nothing that exists yet.
    pub fn prepare(scene: &'s Scene, plant: &Plant) -> Result<Stage<'s>> {
        let mut topics = Topics::on(scene, &plant.kafka, "json");
        for option in OPTIONS {
            topics = topics.with(format!("kafka.options.{option}"));
        }
        let checkpoints = [
            format!("checkpoint.url=s3://{BUCKET}/{}", scene.prefix()),
            format!("checkpoint.endpoint=http://127.0.0.1:{}", plant.way_to_store.port()),
            format!("checkpoint.region={REGION}"),
            "checkpoint.allow_http=true".to_owned(),
            "checkpoint.request_timeout=2s".to_owned(),
            "checkpoint.every=2s".to_owned(),
        ];
        topics = checkpoints.into_iter().fold(topics, Topics::with);
        topics = topics
            .with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .with_env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Ok(Stage {
            bootstrap: format!("kafka.bootstrap=127.0.0.1:{}", plant.proxy.port()),
            scene,
            topics,
            output: scene.path("live"),
            tally: Tally::default(),
            members: Vec::new(),
            simulators: Vec::new(),
        })
    }

    /// Starts a simulation and waits until there is something in every partition: from then on readers know whom to wait for.
    /// Records come twice, late and damaged, and the disorder is ten times that of life.
    pub fn simulate(&mut self, name: &str, start: &str, duration: &str, speed: u32) -> Result {
        let traffic = ["--shops", "3", "--agents", "4", "--buyers-per-agent", "60", "--dead-share", "0.01"];
        let disorder = ["--disorder", "10", "--duplicates", "0.1", "--late-share", "0.03"];
        let time = ["--start", start, "--duration", duration, "--speed-up", &speed.to_string()];
        // It outlasts every fault.
        let patience = ["--set", "kafka.options.message.timeout.ms=600000"];
        let flags = [&traffic[..], &disorder, &time, &patience].concat();
        let simulator = self.topics.simulate(name, &flags)?;
        self.simulators.push(simulator);
        Ok(())
    }

    /// Starts the members of a plan.
    pub fn join(&mut self, plan: &Plan) -> Result {
        for (role, count) in ["intake", "scorer", "warehouse"].into_iter().zip(plan.members) {
            for n in 0..count {
                self.add(&format!("{role}-{n}"), role, &[])?;
            }
        }
        Ok(())
    }

    /// Starts one more member; its number.
    pub fn add(&mut self, name: &str, role: &'static str, settings: &[String]) -> Result<usize> {
        self.add_at(name, role, settings, None)
    }

    /// The same with a marked point at which it fails.
    pub fn add_at(&mut self, name: &str, role: &'static str, settings: &[String], failpoint: Option<&str>) -> Result<usize> {
        let mut settings = [std::slice::from_ref(&self.bootstrap), settings].concat();
        if role == "warehouse" {
            settings.push(format!("warehouse.output={}", text(&self.output)?));
        }
        self.members.push(Member {
            name: name.to_owned(),
            role,
            settings,
            running: None,
            starts: 0,
        });
        let number = self.members.len() - 1;
        self.start_with(number, &[], failpoint)?;
        Ok(number)
    }

    /// Starts a member again.
    pub fn start(&mut self, number: usize) -> Result {
        self.start_with(number, &[], None)
    }

    /// Starts a member again with other settings beside its own, and with a marked point at which it fails.
    pub fn start_with(&mut self, number: usize, more: &[String], failpoint: Option<&str>) -> Result {
        let member = self.member(number)?;
        member.starts += 1;
        let (name, role) = (format!("{}-start-{}", member.name, member.starts), member.role);
        let settings = [&member.settings, more].concat();
        let running = self.topics.role_at(&name, role, &settings, failpoint)?;
        self.member(number)?.running = Some(running);
        Ok(())
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self, number: usize) -> Result {
        self.member(number)?.running.take().context("not running")?.process.kill()
    }

    /// Ends it in good order; it must not take it for a failure.
    pub fn terminate(&mut self, number: usize) -> Result {
        self.member(number)?.running.take().context("not running")?.terminate()
    }

    /// Asks members to end, all at once, whatever they say when they do; none may take longer than a process is given.
    pub fn terminate_all(&mut self, numbers: &[usize]) -> Result {
        let mut roles = Vec::new();
        for number in numbers {
            roles.push(self.member(*number)?.running.take().context("not running")?);
        }
        std::thread::scope(|scope| {
            let end = |mut role: Role| scope.spawn(move || role.process.terminate().map(drop));
            let ends: Vec<_> = roles.into_iter().map(end).collect();
            let all = ends
                .into_iter()
                .map(|end| end.join().unwrap_or_else(|_| bail!("a thread panicked")));
            all.collect()
        })
    }

    /// Ends a member for good.
    pub fn dismiss(&mut self, number: usize) -> Result {
        self.terminate(number)?;
        self.members.remove(number);
        Ok(())
    }

    /// Forgets that a member ran, as it has ended; how long a marked point may be waited for.
    pub fn wait_for_death(&mut self, number: usize) -> Result {
        let member = self.member(number)?;
        let mut role = member.running.take().context("not running")?;
        let status = role.process.wait(LONG).context(format!("{} at its marked point", member.name))?;
        ensure!(!status.success(), "{} ended in good order", member.name);
        Ok(())
    }

    /// A member.
    pub fn member(&mut self, number: usize) -> Result<&mut Member> {
        self.members.get_mut(number).context("no such member")
    }

    /// The numbers of a role's members.
    pub fn members_of(&self, role: &str) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].role == role).collect()
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Waits until so many more records are in the inputs: an instant that nobody chose.
    pub fn after_records(&mut self, random: &mut SmallRng, range: std::ops::Range<i64>) -> Result {
        let wanted = self.topics.records()?.iter().sum::<i64>() + random.random_range(range);
        wait_until("more records", LONG, || {
            self.ensure_load().map_err(Failure::fatal)?;
            let now: i64 = self.topics.records()?.iter().sum();
            ensure!(now >= wanted, "{now} of {wanted}");
            Ok(Some(()))
        })
    }

    /// An error when the simulation is over: what comes now would be no fault under load.
    pub fn ensure_load(&mut self) -> Result {
        for simulator in &mut self.simulators {
            let ended = simulator.ended()?;
            ensure!(
                ended.is_none(),
                "the simulation was over before the last fault: {}",
                simulator.stderr()?.lines().last().unwrap_or("")
            );
        }
        Ok(())
    }

    /// Looks at something while the simulation stands still and all that it wrote is published.
    pub fn quiet<T>(&mut self, look: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.simulators.iter_mut().try_for_each(Process::pause)?;
        let seen = self.recovered().and_then(|()| look(self));
        self.simulators.iter_mut().try_for_each(Process::resume)?;
        seen
    }

    /// Waits until all that is there now, when a fault's cause is gone, is forwarded, folded and published.
    pub fn recovered(&mut self) -> Result {
        let begun = Instant::now();
        let clock = self.forwarded()?;
        wait_until("the scorers to have published it", LONG, || {
            let scorers = self.members.iter_mut().filter(|m| m.role == "scorer");
            let at = complete_until_ms(scorers.filter_map(|m| m.running.as_mut()))?;
            ensure!(at >= clock, "complete until {at}, wanted {clock}");
            Ok(Some(()))
        })?;
        self.tally.recovery = self.tally.recovery.max(begun.elapsed());
        Ok(())
    }

    /// Waits until the intakes have committed what is in the inputs now; the time (ms) up to which they are complete then.
    fn forwarded(&mut self) -> Result<f64> {
        let members = &mut self.members;
        let mut alive = || members.iter_mut().try_for_each(|member| member.process()?.alive());
        let ends = self.topics.wait_until_forwarded(&mut alive)?;
        let mut lowest = f64::INFINITY;
        for (topic, ends) in INPUTS.iter().zip(ends) {
            // One that never had a record has no clock.
            for (partition, _) in ends.iter().enumerate().filter(|(_, end)| **end > 0) {
                lowest = lowest.min(self.clock(topic, partition)?);
            }
        }
        Ok(lowest)
    }

    /// The newest clock (ms) of a source partition that an intake tells.
    pub fn clock(&mut self, topic: &str, partition: usize) -> Result<f64> {
        let labels = format!("partition=\"{partition}\",topic=\"{topic}\"");
        wait_until(&format!("an intake to tell the clock of {labels}"), LONG, || {
            let mut newest = None;
            for member in self.members.iter_mut().filter(|member| member.role == "intake") {
                let values = member.metric("peakdesk_intake_source_clock_milliseconds", &labels)?;
                newest = values.into_iter().chain(newest).reduce(f64::max);
            }
            Ok(newest)
        })
    }

    /// Waits for the end of the simulation and until all of it is forwarded.
    pub fn drain(&mut self) -> Result {
        for simulator in &mut self.simulators {
            let status = simulator.wait(LONG)?;
            ensure!(status.success(), "the simulator failed: {}", simulator.stderr()?);
        }
        self.forwarded().map(drop)
    }

    /// Ends the simulation before its time.
    pub fn end_load(&mut self) -> Result {
        for simulator in &mut self.simulators {
            if simulator.ended()?.is_none() {
                simulator.terminate()?;
            }
        }
        self.drain()
    }

    /// Runs until everything is final and in a file, ends all roles, and compares with an undisturbed run; how many rows.
    pub fn end(mut self) -> Result<usize> {
        let begun = Instant::now();
        self.finish()?;
        let judged = Instant::now();
        let rows = judge::judge(&self)?;
        println!(
            "read and final after {:.1} s, compared after {:.1} s more",
            (judged - begun).as_secs_f64(),
            judged.elapsed().as_secs_f64()
        );
        Ok(rows)
    }

    /// Runs until everything is final and in a file, and ends all roles.
    pub fn finish(&mut self) -> Result {
        for number in 0..self.members.len() {
            if self.member(number)?.running.is_none() {
                self.start(number)?;
            }
        }
        self.end_load()?;
        let mut take = |role: &str| -> Vec<Role> {
            let members = self.members.iter_mut().filter(|m| m.role == role);
            members.filter_map(|m| m.running.take()).collect()
        };
        let (intakes, mut scorers, mut warehouses) = (take("intake"), take("scorer"), take("warehouse"));
        self.topics.run_out(intakes, &mut scorers)?;
        for warehouse in &mut warehouses {
            self.topics.wait_for_warehouse(warehouse)?;
        }
        for warehouse in &mut warehouses {
            warehouse.terminate()?;
        }
        Ok(())
    }

    /// The sum of a metric over the members of a role; of all, if it is empty.
    pub fn sum(&mut self, role: &str, name: &str, labels: &str) -> Result<f64> {
        let mut sum = 0.0;
        for member in self.members.iter_mut().filter(|m| role.is_empty() || m.role == role) {
            sum += member.metric(name, labels)?.iter().sum::<f64>();
        }
        Ok(sum)
    }

    /// The most memory that each member ever had (MiB).
    pub fn peak_memory(&mut self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for member in &mut self.members {
            let bytes = member.metric("peakdesk_process_resident_memory_peak_bytes", "")?;
            all.push(bytes.first().copied().unwrap_or(0.0) / 1_048_576.0);
        }
        Ok(all)
    }
}

/// Lets a fault last; nothing tells when it has lasted long enough.
pub fn lasts(duration: Duration) {
    std::thread::sleep(duration);
}
