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

/// The workers of the attempts that are under way.
#[derive(Debug, Default)]
pub(super) struct Contacts(Mutex<HashMap<AttemptId, Contact>>);

impl Contacts {
    /// A worker that is about to be started, or found again.
    pub fn begin(&self, attempt: AttemptId, cancel: bool) {
        let now = Instant::now();
        self.all().insert(attempt, Contact { seen: now, progressed: now, cancel, told: false });
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

    /// Its run is asked to stop.
    pub fn cancel(&self, attempt: AttemptId) {
        self.change(attempt, |contact| contact.cancel = true);
    }

    /// It has told how its attempt ended.
    pub fn told(&self, attempt: AttemptId) {
        self.change(attempt, |contact| contact.told = true);
    }

    /// What is known; of an attempt that is over, that it is.
    pub fn get(&self, attempt: AttemptId) -> Contact {
        let now = Instant::now();
        let over = Contact { seen: now, progressed: now, cancel: false, told: true };
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
