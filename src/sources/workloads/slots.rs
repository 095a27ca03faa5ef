//! The workloads that have series of their own, by their places in the ledgers.

use std::collections::HashMap;

use super::ledger::FIRST;
use super::name::{Name, Workload};

/// The places. Several cgroups of one name have one place.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The places of each name: one, unless containers and programs of one name are told apart.
    places: HashMap<Name, Vec<usize>>,
    tells_apart: bool,
    /// How many places are taken.
    taken: usize,
    slots: Vec<Slot>,
    free: Vec<usize>,
    max: usize,
    /// How many workloads are there that lie in others.
    nested: usize,
    /// The number of new workloads that the group has free series for.
    room: usize,
    /// Places that were given since this was last asked for.
    started: Vec<usize>,
    /// Whether some place has no reference any more.
    has_unused: bool,
}

#[derive(Debug, Default)]
struct Slot {
    workload: Option<Workload>,
    /// How many cgroups or processes it has.
    references: usize,
    /// Whether all of them lie in other workloads.
    is_nested: bool,
    /// Whether it is among those that were given since.
    is_started: bool,
    /// Whether its workload waits for its name: until then it has no series.
    is_hidden: bool,
    /// The place of the same workload under another name, if it has got one.
    heir: Option<usize>,
}

/// A place whose workload has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub place: usize,
    /// The place of the same workload under another name, if it has got one.
    pub heir: Option<usize>,
    /// Whether it had no series, because it waited for its name.
    pub was_hidden: bool,
}

impl Slots {
    /// Empty, with at most `max` workloads.
    pub(super) fn new(max: usize) -> Slots {
        Slots {
            max,
            room: usize::MAX,
            ..Slots::default()
        }
    }

    /// Gives containers of different ids, and programs that differ in more than their names, places of their own.
    pub(super) fn tell_apart(&mut self) {
        self.tells_apart = true;
    }

    /// The maximum.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Changes the maximum. Workloads that have places keep them.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// There are series for so many new workloads, of which some wait for their names.
    pub(super) fn set_room(&mut self, room: usize) {
        self.room = room.saturating_sub(self.hidden().count());
    }

    /// Whether there are more than there is room for.
    pub(super) fn are_too_many(&self) -> bool {
        self.taken > self.max
    }

    /// Whether there is room for another one at all.
    pub(super) fn have_room(&self) -> bool {
        self.taken < self.max && self.room > 0
    }

    /// Whether there is room for one that lies in another workload. Whoever runs that can make any number: they have at most half of
    /// the places, and leave a part of the series to the others, whatever comes and goes.
    fn have_nested_room(&self) -> bool {
        self.nested < self.max / 2 && self.room > self.max / 4
    }

    /// How many places the ledgers need.
    pub(super) fn places(&self) -> usize {
        FIRST + self.slots.len()
    }

    /// A place for one more cgroup of this name; `None`: there is no room for another name. A container that follows another
    /// one of its name, which has ended, has a place of its own.
    pub(super) fn take(&mut self, workload: &Workload, is_nested: bool) -> Option<usize> {
        if let Some(place) = self.join(workload, is_nested) {
            return Some(place);
        }
        let place = self.hide(is_nested)?;
        self.show(place, workload);
        Some(place)
    }

    /// The place of this name, for one more cgroup; `None`: it has none.
    fn join(&mut self, workload: &Workload, is_nested: bool) -> Option<usize> {
        for place in self.places.get(&workload.name).into_iter().flatten() {
            let slot = &mut self.slots[place - FIRST];
            let Some(known) = &slot.workload else {
                continue;
            };
            let is_part = !self.tells_apart || known.origin.is_same_part(&workload.origin);
            if is_part && (slot.references > 0 || known.origin == workload.origin) {
                slot.references += 1;
                slot.heir = None;
                if slot.is_nested && !is_nested {
                    slot.is_nested = false;
                    self.nested -= 1;
                }
                return Some(*place);
            }
        }
        None
    }

    /// A place for a cgroup that waits for its name, without series until it has it; `None`: there is no room.
    pub(super) fn hide(&mut self, is_nested: bool) -> Option<usize> {
        if !self.have_room() || is_nested && !self.have_nested_room() {
            return None;
        }
        self.room -= 1;
        self.nested += usize::from(is_nested);
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            FIRST + self.slots.len() - 1
        });
        self.slots[place - FIRST] = Slot {
            references: 1,
            is_nested,
            is_hidden: true,
            ..Slot::default()
        };
        self.taken += 1;
        Some(place)
    }

    /// Whether the cgroup at this place waits for its name.
    pub(super) fn is_hidden(&self, place: usize) -> bool {
        let slot = place.checked_sub(FIRST).and_then(|i| self.slots.get(i));
        slot.is_some_and(|slot| slot.is_hidden)
    }

    /// The places of those that wait for their names.
    pub(super) fn hidden(&self) -> impl Iterator<Item = usize> + '_ {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(i, slot)| slot.is_hidden.then_some(FIRST + i))
    }

    /// The cgroup at this hidden place has its name: returns the place of that name, which has what the hidden one had.
    pub(super) fn reveal(&mut self, place: usize, workload: &Workload, is_nested: bool) -> usize {
        if let Some(heir) = self.join(workload, is_nested) {
            self.release(place);
            self.slots[place - FIRST].heir = Some(heir);
            return heir;
        }
        self.show(place, workload);
        place
    }

    /// The hidden place is this workload's.
    fn show(&mut self, place: usize, workload: &Workload) {
        let slot = &mut self.slots[place - FIRST];
        slot.workload = Some(workload.clone());
        slot.is_hidden = false;
        slot.is_started = true;
        match self.places.get_mut(&workload.name) {
            Some(places) => places.push(place),
            None => {
                self.places.insert(workload.name.clone(), vec![place]);
            }
        }
        self.started.push(place);
    }

    /// One of the cgroups at this place is gone.
    pub(super) fn release(&mut self, place: usize) {
        let Some(slot) = place.checked_sub(FIRST).and_then(|i| self.slots.get_mut(i)) else {
            return;
        };
        slot.references = slot.references.saturating_sub(1);
        self.has_unused |= slot.references == 0;
    }

    /// One of the cgroups at a place has another name now: a place under that name, if there is room.
    pub(super) fn rename(
        &mut self,
        place: usize,
        workload: &Workload,
        is_nested: bool,
    ) -> Option<usize> {
        if self.is_hidden(place) {
            return Some(self.reveal(place, workload, is_nested));
        }
        self.release(place);
        let heir = self.take(workload, is_nested);
        if let Some(slot) = place
            .checked_sub(FIRST)
            .and_then(|i| self.slots.get_mut(i))
            .filter(|slot| slot.references == 0)
        {
            slot.heir = heir;
        }
        heir
    }

    /// The places whose workloads have ended; they are free from now on.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        if !std::mem::take(&mut self.has_unused) {
            return Vec::new();
        }
        let mut ended = Vec::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if slot.references > 0 {
                continue;
            }
            let was_hidden = std::mem::take(&mut slot.is_hidden);
            let workload = slot.workload.take();
            if workload.is_none() && !was_hidden {
                continue;
            }
            if let Some(Workload { name, .. }) = workload {
                if let Some(places) = self.places.get_mut(&name) {
                    places.retain(|place| *place != FIRST + i);
                    if places.is_empty() {
                        self.places.remove(&name);
                    }
                }
            }
            self.taken -= 1;
            self.free.push(FIRST + i);
            ended.push(Ended {
                place: FIRST + i,
                heir: slot.heir.take(),
                was_hidden,
            });
            slot.is_started = false;
            self.nested -= usize::from(std::mem::take(&mut slot.is_nested));
        }
        for one in &mut ended {
            // One that has ended as well inherits nothing.
            one.heir = one.heir.filter(|heir| self.workload(*heir).is_some());
        }
        let slots = &self.slots;
        self.started.retain(|place| slots[place - FIRST].is_started);
        ended
    }

    /// The places that were given since.
    pub(super) fn take_started(&mut self) -> Vec<usize> {
        for place in &self.started {
            self.slots[place - FIRST].is_started = false;
        }
        std::mem::take(&mut self.started)
    }

    /// The workloads and their places.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Workload)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(i, slot)| Some((FIRST + i, slot.workload.as_ref()?)))
    }

    /// The workload at a place.
    pub(super) fn workload(&self, place: usize) -> Option<&Workload> {
        let slot = self.slots.get(place.checked_sub(FIRST)?)?;
        slot.workload.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::workloads::ledger::OTHER;
    use crate::sources::workloads::name::{Kind, Origin};

    fn name(text: &str) -> Workload {
        Name::new(Kind::Service, text).into()
    }

    fn ended(slots: &mut Slots) -> Vec<(usize, Option<usize>)> {
        let ended = slots.take_ended().into_iter();
        ended.map(|one| (one.place, one.heir)).collect()
    }

    #[test]
    fn renamed_workload_has_an_heir_if_nothing_else_has_its_old_name() {
        let mut slots = Slots::new(3);
        let a = slots.take(&name("a"), false).unwrap();
        let b = slots.rename(a, &name("b"), false).unwrap();
        assert_eq!(ended(&mut slots), [(a, Some(b))]);
        // Another one has the name still.
        slots.take(&name("b"), false);
        let c = slots.rename(b, &name("c"), false).unwrap();
        assert_eq!(ended(&mut slots), []);
        slots.release(b);
        assert_eq!(ended(&mut slots), [(b, None)]);
        // One that takes the old name again has what is pending; an heir that has ended has nothing.
        let d = slots.rename(c, &name("d"), false).unwrap();
        slots.take(&name("c"), false);
        slots.release(c);
        assert_eq!(ended(&mut slots), [(c, None)]);
        let e = slots.rename(d, &name("e"), false).unwrap();
        slots.release(e);
        assert!(ended(&mut slots).iter().all(|(_, heir)| heir.is_none()));
        assert!(slots.rename(OTHER, &name("f"), false) >= Some(FIRST));
    }

    #[test]
    fn hidden_place_is_shown_under_its_name_or_is_inherited_by_those_of_that_name() {
        let mut slots = Slots::new(3);
        let [a, b] = [slots.hide(false), slots.hide(true)].map(Option::unwrap);
        assert_eq!(slots.hidden().collect::<Vec<_>>(), [a, b]);
        assert_eq!(slots.all().count(), 0);
        assert!(slots.take_started().is_empty() && slots.take_ended().is_empty());
        assert_eq!(slots.rename(a, &name("a"), false), Some(a));
        assert_eq!(slots.take_started(), [a]);
        // Another one of that name.
        assert_eq!(slots.reveal(b, &name("a"), true), a);
        let inherited = Ended {
            place: b,
            heir: Some(a),
            was_hidden: true,
        };
        assert_eq!(slots.take_ended(), [inherited]);
        assert!(slots.take_started().is_empty());
        // One that ends before it has its name has no heir.
        let c = slots.hide(false).unwrap();
        slots.release(c);
        assert_eq!(ended(&mut slots), [(c, None)]);
        let d = slots.hide(false).unwrap();
        assert!(slots.hide(false).is_some());
        assert_eq!(slots.hide(false), None, "there is room for three");
        assert!(slots.is_hidden(d) && !slots.is_hidden(a) && !slots.is_hidden(OTHER));
        slots.set_max(4);
        slots.set_room(2);
        assert_eq!(slots.hide(false), None, "the series are for those two");
        slots.set_room(3);
        assert!(slots.hide(false).is_some());
    }

    #[test]
    fn names_share_a_place_until_the_last_cgroup_is_gone() {
        let mut slots = Slots::new(2);
        let a = slots.take(&name("a"), false).unwrap();
        assert_eq!(slots.take(&name("a"), false), Some(a));
        let b = slots.take(&name("b"), false).unwrap();
        assert_eq!(slots.take(&name("c"), false), None, "there is room for two");
        assert_eq!(slots.take_started(), [a, b]);
        slots.release(a);
        assert!(slots.take_ended().is_empty());
        slots.release(a);
        assert_eq!(ended(&mut slots), [(a, None)]);
        assert_eq!(slots.take(&name("c"), false), Some(a));
        assert_eq!(slots.places(), FIRST + 2);
        assert_eq!(slots.all().count(), 2);
    }

    #[test]
    fn restart_between_two_polls_keeps_the_place() {
        let mut slots = Slots::new(2);
        let a = slots.take(&name("a"), false).unwrap();
        slots.release(a);
        assert_eq!(slots.take(&name("a"), false), Some(a));
        assert!(slots.take_ended().is_empty());
        assert_eq!(slots.workload(a), Some(&name("a")));
    }

    #[test]
    fn container_that_follows_one_of_its_name_has_a_place_of_its_own() {
        let container = |id: &str| Workload {
            name: Name::new(Kind::Container, "web"),
            origin: Origin {
                container_id: Some(id.to_string()),
                ..Origin::default()
            },
        };
        let mut slots = Slots::new(2);
        let first = slots.take(&container("1"), false).unwrap();
        assert_eq!(
            slots.take(&container("2"), false),
            Some(first),
            "both are there"
        );
        slots.release(first);
        slots.release(first);
        let next = slots.take(&container("3"), false).unwrap();
        assert_ne!(next, first);
        assert_eq!(ended(&mut slots), [(first, None)]);
        assert_eq!(slots.take(&container("3"), false), Some(next));
        assert_eq!(slots.all().count(), 1);
    }

    #[test]
    fn workloads_in_others_have_half_of_the_places() {
        let mut slots = Slots::new(4);
        let nested = [0, 1, 2].map(|i| slots.take(&name(&format!("n{i}")), true));
        assert!(nested[0].is_some() && nested[1].is_some() && nested[2].is_none());
        let a = slots.take(&name("a"), false);
        assert!(a.is_some() && slots.take(&name("b"), false).is_some());
        assert_eq!(slots.take(&name("c"), false), None);
        // One of the same name that lies in no other is as good as any.
        slots.release(a.unwrap());
        slots.take_ended();
        assert_eq!(slots.take(&name("n0"), false), nested[0]);
        assert_eq!(slots.take(&name("n2"), true), a);
        for place in nested.into_iter().flatten() {
            slots.release(place);
        }
        slots.release(nested[0].unwrap());
        slots.take_ended();
        slots.set_room(1);
        assert_eq!(slots.take(&name("n3"), true), None, "the last series");
        assert!(slots.take(&name("d"), false).is_some());
        assert!(slots.take_started().len() > 2);
        assert!(slots.take_started().is_empty());
    }
}
