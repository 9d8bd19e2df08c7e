//! How a reader tells a consumer that there is something for it: a list of places and one waker,
//! however many partitions a consumer reads.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

/// What one consumer is told, until it looks.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Which ears heard something, each at most once.
    heard: Vec<u64>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes out which ears heard something; `cx` is woken by the next.
    pub fn take(&self, cx: &mut Context<'_>) -> Vec<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut state.heard)
    }

    fn put(&self, key: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard.push(key);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

/// A consumer's ear at one source. It is told once and then not again until it has listened, so
/// that a consumer that cannot take more costs its reader next to nothing.
#[derive(Debug)]
pub struct Ear {
    mailbox: Arc<Mailbox>,
    key: u64,
    is_told: AtomicBool,
}

impl Ear {
    /// An ear whose news comes into `mailbox` as `key`.
    pub fn new(mailbox: &Arc<Mailbox>, key: u64) -> Arc<Self> {
        Arc::new(Self { mailbox: Arc::clone(mailbox), key, is_told: AtomicBool::new(false) })
    }

    /// Tells it that there is something.
    pub fn tell(&self) {
        if !self.is_told.swap(true, Ordering::AcqRel) {
            self.mailbox.put(self.key);
        }
    }

    /// It looks from now on: what comes after this is told again.
    pub fn listen(&self) {
        self.is_told.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_ear_is_told_once_until_it_listens() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mailbox = Mailbox::new();
        let [a, b] = [1, 2].map(|key| Ear::new(&mailbox, key));
        assert!(mailbox.take(&mut cx).is_empty());
        a.tell();
        a.tell();
        b.tell();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(mailbox.take(&mut cx), [1, 2]);
        a.tell();
        assert!(mailbox.take(&mut cx).is_empty());
        a.listen();
        a.tell();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert_eq!(mailbox.take(&mut cx), [1]);
        b.listen();
        b.tell();
        assert_eq!(count.0.load(Ordering::Relaxed), 3, "also after it found something");
    }
}
