//! What is known of the workers from their calls, for those who watch them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::domain::AttemptId;

/// What is known of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    /// When it last called.
    pub seen: Instant,
    /// When it last got further.
    pub progressed: Instant,
    /// Somebody asked its run to stop.
    pub cancel: bool,
    /// It has told how its attempt ended.
    pub told: bool,
}

impl Contact {
    fn new() -> Self {
        let now = Instant::now();
        Self { seen: now, progressed: now, cancel: false, told: false }
    }
}

/// The workers of the attempts that are under way.
#[derive(Debug, Default)]
pub(super) struct Contacts(Mutex<HashMap<AttemptId, Contact>>);

impl Contacts {
    /// A worker that is about to be started, or found again.
    pub fn begin(&self, attempt: AttemptId, cancel: bool) {
        let mut all = self.all();
        // Whoever asked it to stop since it was read or claimed was here first.
        let asked = all.get(&attempt).is_some_and(|contact| contact.cancel);
        all.insert(attempt, Contact { cancel: cancel || asked, ..Contact::new() });
    }

    /// It has called, or may have done so in vain.
    pub fn seen(&self, attempt: AttemptId, progressed: bool) {
        self.change(attempt, |contact| {
            contact.seen = Instant::now();
            if progressed {
                contact.progressed = contact.seen;
            }
        });
    }

    /// Its run is asked to stop, maybe before it has begun.
    pub fn cancel(&self, attempt: AttemptId) {
        self.all().entry(attempt).or_insert_with(Contact::new).cancel = true;
    }

    /// It has told how its attempt ended.
    pub fn told(&self, attempt: AttemptId) {
        self.change(attempt, |contact| contact.told = true);
    }

    /// What is known; of an attempt that is over, that it is.
    pub fn get(&self, attempt: AttemptId) -> Contact {
        let over = Contact { told: true, ..Contact::new() };
        self.all().get(&attempt).copied().unwrap_or(over)
    }

    /// The attempt is over.
    pub fn end(&self, attempt: AttemptId) {
        self.all().remove(&attempt);
    }

    fn change(&self, attempt: AttemptId, change: impl FnOnce(&mut Contact)) {
        if let Some(contact) = self.all().get_mut(&attempt) {
            change(contact);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<AttemptId, Contact>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_to_stop_before_it_begins_is_asked() {
        let contacts = Contacts::default();
        contacts.cancel(AttemptId(1));
        [1, 2].into_iter().for_each(|attempt| contacts.begin(AttemptId(attempt), false));
        assert_eq!([1, 2].map(|attempt| contacts.get(AttemptId(attempt)).cancel), [true, false]);
    }
}
