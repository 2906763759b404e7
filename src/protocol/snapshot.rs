//! Snapshot: readers see whole versions of a map; writers lose no update.
//!
//! Topics, routes and handlers are looked up on every publish and delivery and change rarely.
//! So a reader loads one immutable map, and a writer copies it, changes the copy and puts it in
//! place, one writer at a time.
//!
//! # Invariants
//!
//! * `reader_sees_a_whole_version`: what `load` gives is never changed afterwards.
//! * `versions_do_not_go_back_for_a_reader`: a later load is at least as new.
//! * `no_update_lost`: every successful change is in every later version until it is changed again.
//! * `failed_change_is_no_change`: a change that errs or panics leaves the version as it was.
//! * `removal_is_by_identity`: `remove` takes away the entry it was given, not one put there since.
//!
//! # States
//!
//! One cell with the current version, one lock for writers. The copy, the change and the store
//! are under the lock; the version counts up by one with each.
//!
//! # Orderings
//!
//! | site       | order           | pairs with | if weaker                                      |
//! |------------|-----------------|------------|------------------------------------------------|
//! | cell load  | Acquire         | cell swap  | a reader sees a map whose entries are not there yet |
//! | cell swap  | AcqRel          | cell load  | same                                           |
//!
//! Both are the cell's own. The lock orders the writers.

use super::sync::{Arc, ArcCell, Mutex};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;

/// A map read without a lock and replaced whole.
pub struct Snapshot<K, V, H> {
    cell: ArcCell<Version<K, V, H>>,
    writer: Mutex<()>,
}

/// One version of the map. It never changes.
pub struct Version<K, V, H> {
    number: u64,
    map: HashMap<K, Arc<V>, H>,
}

/// There is an entry already.
#[derive(Debug)]
pub struct Occupied<V>(pub Arc<V>);

impl<K, V, H> Snapshot<K, V, H>
where
    K: Clone + Eq + Hash,
    H: BuildHasher + Clone + Default,
{
    /// An empty map, version 0.
    pub fn new() -> Self {
        let empty = Version {
            number: 0,
            map: HashMap::with_hasher(H::default()),
        };
        Self {
            cell: ArcCell::new(Arc::new(empty)),
            writer: Mutex::new(()),
        }
    }

    /// The version now, for one operation: look up everything it needs in this one.
    pub fn load(&self) -> impl Deref<Target = Arc<Version<K, V, H>>> + use<K, V, H> {
        self.cell.load()
    }

    /// Puts `value` under `key`, unless there is an entry.
    pub fn insert(&self, key: K, value: Arc<V>) -> Result<(), Occupied<V>> {
        self.change(|map| match map.get(&key) {
            Some(there) => Err(Occupied(there.clone())),
            None => {
                map.insert(key, value);
                Ok(())
            }
        })
    }

    /// The entry under `key`; if there is none, the one that `make` makes, told how many there are.
    pub fn get_or_insert<E>(
        &self,
        key: &K,
        make: impl FnOnce(usize) -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        if let Some(there) = self.load().get(key) {
            return Ok(there.clone());
        }
        let mut found = None;
        let changed = self.change(|map| match map.get(key) {
            // Looked again under the lock: another writer may have been faster.
            Some(there) => {
                found = Some(there.clone());
                Err(None)
            }
            None => {
                let made = Arc::new(make(map.len()).map_err(Some)?);
                map.insert(key.clone(), made.clone());
                Ok(made)
            }
        });
        match (changed, found) {
            (Ok(made), _) => Ok(made),
            (Err(_), Some(there)) => Ok(there),
            (Err(Some(error)), None) => Err(error),
            (Err(None), None) => unreachable!("refused without a reason"),
        }
    }

    /// Takes away the entry under `key` if it is still `value`. Says whether it did.
    pub fn remove(&self, key: &K, value: &Arc<V>) -> bool {
        let removed = self.change(|map| match map.get(key) {
            Some(there) if Arc::ptr_eq(there, value) => {
                map.remove(key);
                Ok(())
            }
            _ => Err(()),
        });
        removed.is_ok()
    }

    /// Changes a copy of the map and puts it in place; if `change` errs or panics, nothing happens.
    fn change<R, E>(
        &self,
        change: impl FnOnce(&mut HashMap<K, Arc<V>, H>) -> Result<R, E>,
    ) -> Result<R, E> {
        let _one_writer = self.writer.lock();
        let now = self.cell.load();
        let mut map = now.map.clone();
        let answer = change(&mut map)?;
        self.cell.store(Arc::new(Version {
            number: now.number + 1,
            map,
        }));
        Ok(answer)
    }
}

impl<K: Eq + Hash, V, H: BuildHasher> Version<K, V, H> {
    /// Counts the changes since the empty map.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The entry under `key`.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The entries, in no order: sort what shows.
    pub fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.map.values()
    }
}

impl<K, V, H> Default for Snapshot<K, V, H>
where
    K: Clone + Eq + Hash,
    H: BuildHasher + Clone + Default,
{
    fn default() -> Self {
        Self::new()
    }
}
