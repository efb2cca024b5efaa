//! Values by place, with places used again, of which a copy costs little.
//!
//! ```text
//! copy ──► [chunk]─┐  [chunk]─┐   chunks are shared until one of the two changes a value in them;
//! slab ──► [chunk]─┘  [chunk']    only that chunk is copied then
//! ```
//!
//! Always holds: a copy never sees a change of the slab it was made of, nor the other way round; the place of a value is the
//! same in both, and so is the place that the next value gets.

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;
use triomphe::Arc;

/// Values that are copied together: a copy of the slab costs less with more of them, the first change after it more.
const CHUNK: usize = 16;

type Chunk<T> = [Option<T>; CHUNK];

/// The list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de> + Clone"))]
pub struct Slab<T> {
    entries: Entries<T>,
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Entries<T> {
    chunks: Vec<Arc<Chunk<T>>>,
    /// Places that were ever given.
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            entries: Entries::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn get(&self, i: u32) -> Option<&T> {
        let i = i as usize;
        self.entries.chunks.get(i / CHUNK)?.get(i % CHUNK)?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len - self.free.len()
    }

    /// The values with their places, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().zip(0..).filter_map(|(entry, i)| Some((i, entry.as_ref()?)))
    }
}

impl<T: Clone> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(i) => {
                if let Some(entry) = self.entries.get_mut(i) {
                    *entry = Some(value);
                }
                i
            }
            None => {
                self.entries.push(Some(value));
                (self.entries.len - 1) as u32
            }
        }
    }

    pub(crate) fn get_mut(&mut self, i: u32) -> Option<&mut T> {
        self.entries.get_mut(i)?.as_mut()
    }

    pub(crate) fn remove(&mut self, i: u32) -> Option<T> {
        let removed = self.entries.get_mut(i)?.take();
        if removed.is_some() {
            self.free.push(i);
        }
        removed
    }
}

impl<T> Entries<T> {
    fn new() -> Self {
        Entries {
            chunks: Vec::new(),
            len: 0,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Option<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).take(self.len)
    }
}

impl<T: Clone> Entries<T> {
    fn get_mut(&mut self, i: u32) -> Option<&mut Option<T>> {
        let i = i as usize;
        Arc::make_mut(self.chunks.get_mut(i / CHUNK)?).get_mut(i % CHUNK)
    }

    fn push(&mut self, entry: Option<T>) {
        if self.len == self.chunks.len() * CHUNK {
            self.chunks.push(Arc::new(std::array::from_fn(|_| None)));
        }
        let i = self.len as u32;
        self.len += 1;
        if let Some(place) = self.get_mut(i) {
            *place = entry;
        }
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = serializer.serialize_seq(Some(self.len))?;
        self.iter().try_for_each(|entry| entries.serialize_element(entry))?;
        entries.end()
    }
}

impl<'de, T: Deserialize<'de> + Clone> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Clone> Visitor<'de> for InOrder<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("values by place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Entries::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_seq(InOrder(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8),
        Change(prop::sample::Index, u8),
        Remove(prop::sample::Index),
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u8>().prop_map(Step::Insert),
            2 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, v)| Step::Change(i, v)),
            2 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => Just(Step::Copy),
        ]
    }

    fn listed(slab: &Slab<u8>) -> Vec<(u32, u8)> {
        slab.iter().map(|(i, v)| (i, *v)).collect()
    }

    proptest! {
        #[test]
        fn a_copy_keeps_what_it_was_made_of_and_goes_on_like_it(steps in prop::collection::vec(step(), 0..200)) {
            let mut slab: Slab<u8> = Slab::default();
            let mut copies = Vec::new();
            for step in steps {
                let places = slab.entries.len.max(1);
                match step {
                    Step::Insert(v) => {
                        slab.insert(v);
                    }
                    Step::Change(i, v) => {
                        if let Some(value) = slab.get_mut(i.index(places) as u32) {
                            *value = v;
                        }
                    }
                    Step::Remove(i) => {
                        slab.remove(i.index(places) as u32);
                    }
                    Step::Copy => copies.push((slab.clone(), listed(&slab))),
                }
                prop_assert_eq!(slab.len(), slab.iter().count());
            }
            for (copy, was) in &mut copies {
                prop_assert_eq!(&listed(copy), &*was);
                let mut bytes = Vec::new();
                ciborium::into_writer(&*copy, &mut bytes).unwrap();
                let mut stored: Slab<u8> = ciborium::from_reader(bytes.as_slice()).unwrap();
                prop_assert_eq!(&listed(&stored), &*was);
                prop_assert_eq!(stored.insert(7), copy.insert(7));
            }
        }
    }
}
