//! The disk of the warehouse is full, or that of the checkpoints.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peakdesk_tests::object_store::stored;
use peakdesk_tests::support::{LONG, text};
use peakdesk_tests::{Context, Result, Scene, ensure, wait_until};

use crate::stage::{Plan, Stage};
use crate::states::PARTITIONS;
use crate::store::wait_for_checkpoints;
use crate::{Plant, Tally};

const MOUNT_LIMIT: Duration = Duration::from_secs(30);

/// A file system in memory with a size; unmounted when dropped.
struct Tmpfs<'s> {
    scene: &'s Scene,
    dir: PathBuf,
}

impl<'s> Tmpfs<'s> {
    fn mount(scene: &'s Scene, dir: &Path, size: &str) -> Result<Tmpfs<'s>> {
        fs::create_dir_all(dir)?;
        let options = format!("size={size}");
        let mount = scene
            .program("mount", "mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir);
        let outcome = mount.run(MOUNT_LIMIT)?;
        ensure!(
            outcome.status.success(),
            "a small tmpfs cannot be mounted at {}; the full disk is tested as root with the right to mount: {}",
            dir.display(),
            outcome.stderr.trim()
        );
        Ok(Tmpfs {
            scene,
            dir: dir.to_owned(),
        })
    }

    fn resize(&self, size: &str) -> Result {
        let options = format!("remount,size={size}");
        let mount = self.scene.program("mount", "mount").args(["-o", &options]).arg(&self.dir);
        mount.run(MOUNT_LIMIT)?.success().map(drop)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // A drop has nobody to tell; the directory cannot be removed then, and says so by its being there.
        let _ = self.scene.program("umount", "umount").arg(&self.dir).run(MOUNT_LIMIT);
    }
}

/// The disk fills up under load; the warehouse keeps its rows and tries again until there is room.
pub fn full(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let rounds = plant.times(1, 5);
    let plan = Plan {
        members: [1, 1, 1],
        ..Plan::default()
    };
    let live = scene.path("live");
    let disk = Tmpfs::mount(scene, &live, "128k")?;
    let mut stage = Stage::begin(scene, plant, &plan)?;
    let warehouse = stage.members_of("warehouse").first().copied().context("no warehouse")?;
    for round in 1..=rounds {
        let failures = |stage: &mut Stage<'_>| -> Result<f64> {
            let values = stage.member(warehouse)?.metric("peakdesk_warehouse_write_failures_total", "")?;
            Ok(values.iter().sum())
        };
        let before = failures(&mut stage)?;
        wait_until("the disk to be full", LONG, || {
            let now = failures(&mut stage)?;
            ensure!(now > before, "{now} failed writes");
            Ok(Some(()))
        })?;
        stage.tally.injected += 1;
        stage.ensure_load()?;
        disk.resize(&format!("{}k", 128 + 256 * round))?;
        stage.recovered()?;
    }
    disk.resize("512m")?;
    let (tally, rows) = (stage.tally, stage.end()?);
    drop(disk);
    Ok((tally, rows))
}

/// The disk of the checkpoints, a directory here, is full: the scorer goes on and says so, stores again when there is room, and what it
/// stored then is good.
pub fn full_of_states(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let states = scene.path("states");
    let disk = Tmpfs::mount(scene, &states, "64m")?;
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics = stage.topics.clone().with(format!("checkpoint.url={}", text(&states)?));
    let plan = Plan {
        members: [1, 1, 1],
        ..Plan::default()
    };
    stage.open(&plan)?;
    let scorer = stage.members_of("scorer").first().copied().context("no scorer")?;
    for _ in 0..plant.times(1, 5) {
        wait_for_newer(&states, [0; PARTITIONS])?;
        let filler = states.join("filler");
        fill(&filler)?;
        stage.tally.injected += 1;
        wait_for_checkpoints(&mut stage, "failed")?;
        wait_for_checkpoints(&mut stage, "failed")?;
        let said = stage.member(scorer)?.process()?.stderr()?;
        let says = |line: &str| line.contains("checkpoint not saved") && line.contains("No space left");
        ensure!(said.lines().any(says), "no checkpoint failed for the disk: {said}");
        stage.recovered()?;
        stage.ensure_load()?;
        let full = newest(&states)?;
        fs::remove_file(&filler)?;
        wait_for_newer(&states, full)?;
        stage.kill(scorer)?;
        stage.start(scorer)?;
        wait_until("every partition to go on from a checkpoint", LONG, || {
            let restored = stage
                .member(scorer)?
                .metric("peakdesk_scorer_restores_total", "outcome=\"checkpoint\"")?;
            ensure!(restored.iter().sum::<f64>() == PARTITIONS as f64, "{restored:?}");
            Ok(Some(()))
        })?;
        let unusable = stage.sum("scorer", "peakdesk_scorer_checkpoints_total", "outcome=\"unusable\"")?;
        ensure!(unusable == 0.0, "{unusable} checkpoints are not whole");
        stage.recovered()?;
    }
    let (tally, rows) = (stage.tally, stage.end()?);
    drop(disk);
    Ok((tally, rows))
}

/// The offset of the newest checkpoint of each partition; 0 where there is none.
fn newest(states: &Path) -> Result<[i64; PARTITIONS]> {
    let mut offsets = [0; PARTITIONS];
    for (partition, offset) in offsets.iter_mut().enumerate() {
        *offset = stored(states, partition)?.first().map_or(0, |(offset, _)| *offset);
    }
    Ok(offsets)
}

fn wait_for_newer(states: &Path, than: [i64; PARTITIONS]) -> Result {
    wait_until("a newer checkpoint of every partition", LONG, || {
        let now = newest(states)?;
        ensure!(now.iter().zip(&than).all(|(now, than)| now > than), "{now:?} after {than:?}");
        Ok(Some(()))
    })
}

/// Fills up the disk that a file is on.
fn fill(file: &Path) -> Result {
    let mut filler = fs::File::create(file)?;
    // In small parts at the end, so that nothing is left.
    for part in [vec![0; 1 << 20], vec![0; 512]] {
        while filler.write_all(&part).is_ok() {}
    }
    Ok(())
}
