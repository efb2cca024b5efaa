//! The disk of the warehouse is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peakdesk_tests::support::LONG;
use peakdesk_tests::{Context, Result, Scene, ensure, wait_until};

use crate::stage::{Plan, Stage};
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
