#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use std::io;
use std::sync::{Arc, Mutex};

/// What a disk was told to do.
#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

/// A disk in memory that remembers every step.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<Step>)>>);

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Disk(Arc::new(Mutex::new((bytes, Vec::new()))))
    }

    fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap().1.clone()
    }
}

fn put(bytes: &mut [u8], offset: u64, data: &[u8]) {
    bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        out.copy_from_slice(&disk.0[offset as usize..offset as usize + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.0.resize(len as usize, 0);
        disk.1.push(Step::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.lock().unwrap().1.push(Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        put(&mut disk.0, offset, data);
        disk.1.push(Step::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn batch(n: u64) -> Writes {
    let mut writes: Writes = (0..5).map(|i| (format!("a/{i}"), Some(format!("{n}").into_bytes()))).collect();
    writes.push((format!("g/{n}"), Some(vec![7; 300])));
    if n > 0 {
        writes.push((format!("g/{}", n - 1), None));
    }
    writes
}

/// The number of the batch that a store holds as a whole; fails where it holds parts of one.
fn held(store: &Store) -> Option<u64> {
    let entries = store.entries().unwrap();
    let value = entries.get("a/0")?;
    let n = std::str::from_utf8(value).unwrap().parse().unwrap();
    let mut expected: Vec<String> = (0..5).map(|i| format!("a/{i}")).collect();
    expected.extend([format!("g/{n}"), NAME.to_owned()]);
    assert_eq!(entries.keys().cloned().collect::<Vec<_>>(), expected);
    assert!((0..5).all(|i| entries[&format!("a/{i}")] == *value));
    Some(n)
}

/// The power goes at every step, within a write too (after each of many lengths of it); and what was written since the last sync is there, or not
/// there, by chance.
#[test]
fn a_batch_is_there_as_a_whole_or_not_at_all() {
    let disk = Disk::default();
    let store = Store::on(disk.clone()).unwrap();
    let name = store.name().to_owned();
    // Steps after which a batch was said to be on disk.
    let mut promised = vec![(disk.steps().len(), None)];
    for n in 0..4 {
        store.write(&batch(n)).unwrap();
        promised.push((disk.steps().len(), Some(n)));
    }
    let steps = disk.steps();
    drop(store);
    let begun = promised[0].0;
    let mut tried = 0;
    for cut in begun..=steps.len() {
        let torn = match steps.get(cut) {
            Some(Step::Write(_, data)) => vec![0, 1, data.len() / 3, data.len() / 2, data.len() - 1],
            _ => vec![0],
        };
        let synced = steps[..cut].iter().rposition(|s| matches!(s, Step::Sync)).unwrap_or(0);
        for (torn, seed) in torn.into_iter().flat_map(|t| [(t, 0_u64), (t, 1), (t, 2)]) {
            let mut bytes = Vec::new();
            for (at, step) in steps[..cut].iter().enumerate() {
                // Seed 0: everything arrived in order. Else some of what was not synced did not.
                let lost = seed > 0 && at > synced && (at as u64).wrapping_mul(2_654_435_761).wrapping_add(seed) % 3 == 0;
                match step {
                    Step::Length(len) => bytes.resize(*len as usize, 0),
                    Step::Write(offset, data) if !lost => put(&mut bytes, *offset, data),
                    _ => {}
                }
            }
            if let (Some(Step::Write(offset, data)), true) = (steps.get(cut), torn > 0) {
                put(&mut bytes, *offset, &data[..torn]);
            }
            let store = Store::on(Disk::of(bytes)).unwrap_or_else(|e| panic!("cut at {cut}, {torn} bytes, seed {seed}: {e}"));
            assert_eq!(store.name(), name);
            let least = promised.iter().rev().find(|(at, _)| *at <= cut).and_then(|(_, n)| *n);
            let found = held(&store);
            assert!(
                found == least || found == Some(least.map_or(0, |n| n + 1)),
                "cut at {cut}: {found:?}, promised {least:?}"
            );
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_store_keeps_its_name_and_belongs_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("deep/er")).unwrap();
    store.write(&batch(0)).unwrap();
    let name = store.name().to_owned();
    assert_eq!(name.len(), 16);
    let Err(error) = Store::open(&dir.path().join("deep/er")) else {
        panic!("two have it");
    };
    assert!(error.to_string().contains("alerter.state_dir"), "{error}");
    drop(store);
    let store = Store::open(&dir.path().join("deep/er")).unwrap();
    assert_eq!((store.name(), held(&store)), (name.as_str(), Some(0)));
    assert_ne!(Store::open(dir.path()).unwrap().name(), name);
}
