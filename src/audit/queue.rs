//! Where records wait for the writer, and how long it lets them gather.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Waiting at most; beyond it callers are refused rather than kept.
const MOST: usize = 4096;
/// How long the writer waits for more at most: when others take longer, they are not worth it.
const GATHERING: Duration = Duration::from_millis(2);
/// Fewer at work are not waited for.
const CROWD: usize = 3;

/// How many records are worth waiting for. What a write costs hardly grows with its records, so those of callers who are at
/// work at once are written together.
#[derive(Debug, Default)]
struct Crowd {
    /// How many have been seen at once: in the last group, and waiting when it was written.
    seen: usize,
}

impl Crowd {
    /// What a group of records shows, and those that came while it was written: none of them waited for another. Where
    /// others were waited for in vain, they are not seen.
    fn saw(&mut self, group: usize, meanwhile: usize) {
        self.seen = group + meanwhile;
    }

    /// While so many are at work or waiting. One who is alone, or with one other, is never kept.
    fn enough(&self, coming: usize) -> usize {
        if coming < CROWD { 1 } else { self.seen.max(1) }
    }
}

struct State<T> {
    waiting: Vec<T>,
    /// How many wake the writer; none does while it writes.
    wanted: usize,
    /// Nobody is left who could bring any.
    over: bool,
    /// The writer is gone.
    stopped: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    enough: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why something was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Too many are waiting.
    Full,
    /// The writer is gone.
    Stopped,
}

/// Somebody who is at work and will bring something, for as long as this lives.
pub(super) struct Coming(Arc<AtomicUsize>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those who bring something. When the last is gone, the writer ends.
pub(super) struct Bringers<T> {
    shared: Arc<Shared<T>>,
    coming: Arc<AtomicUsize>,
}

impl<T> Bringers<T> {
    pub(super) fn come(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(Arc::clone(&self.coming))
    }

    pub(super) fn bring(&self, one: T) -> Result<(), (NotTaken, T)> {
        let mut state = self.shared.lock();
        if state.stopped {
            return Err((NotTaken::Stopped, one));
        }
        if state.waiting.len() >= MOST {
            return Err((NotTaken::Full, one));
        }
        state.waiting.push(one);
        let enough = state.waiting.len() == state.wanted;
        drop(state);
        // Waking the writer for each would cost each a call to the kernel.
        if enough {
            self.shared.enough.notify_one();
        }
        Ok(())
    }

    /// Whether the writer is there.
    pub(super) fn is_heard(&self) -> bool {
        !self.shared.lock().stopped
    }

    /// Has the writer end once it has taken what waits.
    pub(super) fn end(&self) {
        self.shared.lock().over = true;
        self.shared.enough.notify_one();
    }
}

impl<T> Drop for Bringers<T> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The writer's end.
pub(super) struct Queue<T> {
    shared: Arc<Shared<T>>,
    coming: Arc<AtomicUsize>,
    crowd: Crowd,
    /// How many were taken last.
    group: usize,
}

impl<T> Drop for Queue<T> {
    /// What waits is dropped with the writer: whoever waits for an answer learns it so.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }
}

impl<T> Queue<T> {
    pub(super) fn new() -> (Bringers<T>, Self) {
        let state = State { waiting: Vec::new(), wanted: usize::MAX, over: false, stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), enough: Condvar::new() });
        let coming = Arc::new(AtomicUsize::new(0));
        let bringers = Bringers { shared: Arc::clone(&shared), coming: Arc::clone(&coming) };
        (bringers, Self { shared, coming, crowd: Crowd::default(), group: 0 })
    }

    /// Takes what waits into `group`, which is empty; nothing, if none came for so long. False once none will come any more.
    pub(super) fn take(&mut self, group: &mut Vec<T>, patience: Duration) -> bool {
        let mut state = self.shared.lock();
        self.crowd.saw(self.group, state.waiting.len());
        let enough = self.crowd.enough(self.coming.load(Ordering::Relaxed));
        if state.waiting.len() < enough && enough > 1 {
            state = self.wait(state, enough, GATHERING);
        }
        if state.waiting.is_empty() {
            state = self.wait(state, 1, patience);
        }
        std::mem::swap(&mut state.waiting, group);
        self.group = group.len();
        !(state.over && group.is_empty())
    }

    /// Waits for so many.
    fn wait<'s>(&self, mut state: MutexGuard<'s, State<T>>, wanted: usize, most: Duration) -> MutexGuard<'s, State<T>> {
        state.wanted = wanted;
        let too_few = |state: &mut State<T>| state.waiting.len() < wanted && !state.over;
        let waited = self.shared.enough.wait_timeout_while(state, most, too_few);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.wanted = usize::MAX;
        state
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Long enough for any machine.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_crowd_is_waited_for_and_nobody_is_who_is_alone() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.enough(32), 1, "none was seen yet");
        for (group, meanwhile, coming, enough) in [
            (1, 0, 1, 1),
            (1, 1, 2, 1),
            // More and more are seen to come while others are written.
            (1, 1, 32, 2),
            (2, 2, 32, 4),
            (4, 5, 32, 9),
            (9, 9, 32, 18),
            // The others have gone.
            (18, 0, 1, 1),
            // Who takes too long is not waited for again.
            (1, 0, 32, 1),
        ] {
            crowd.saw(group, meanwhile);
            assert_eq!(crowd.enough(coming), enough, "{group} and {meanwhile} of {coming}");
        }
    }

    #[test]
    fn what_waits_is_taken_in_order_and_together() {
        let (bringers, mut queue) = Queue::new();
        let mut group = Vec::new();
        for number in 0..10 {
            bringers.bring(number).unwrap();
        }
        assert!(queue.take(&mut group, LONG));
        assert_eq!(group, (0..10).collect::<Vec<_>>());
        group.clear();
        assert!(queue.take(&mut group, Duration::from_millis(1)), "more may come");
        assert!(group.is_empty());
    }

    #[test]
    fn the_writer_waits_for_those_at_work_but_not_for_long() {
        let (bringers, mut queue) = Queue::new();
        let _coming: Vec<Coming> = (0..20).map(|_| bringers.come()).collect();
        let mut group = Vec::new();
        for come in [20, 19] {
            group.clear();
            (0..come).for_each(|number| bringers.bring(number).unwrap());
            let begun = Instant::now();
            assert!(queue.take(&mut group, LONG));
            assert_eq!(group.len(), come);
            assert!(come == 20 || begun.elapsed() >= GATHERING, "the twentieth was waited for");
        }
    }

    #[test]
    fn nobody_is_kept_by_a_full_queue_or_a_writer_that_is_gone() {
        let (bringers, queue) = Queue::new();
        (0..MOST).for_each(|number| bringers.bring(number).unwrap());
        assert_eq!(bringers.bring(MOST), Err((NotTaken::Full, MOST)));
        drop(queue);
        assert_eq!(bringers.bring(0), Err((NotTaken::Stopped, 0)));
    }

    #[test]
    fn the_last_are_taken_before_the_end() {
        let (bringers, mut queue) = Queue::new();
        bringers.bring(1).unwrap();
        drop(bringers);
        let mut group = Vec::new();
        assert!(queue.take(&mut group, LONG));
        assert_eq!(group, [1]);
        group.clear();
        assert!(!queue.take(&mut group, LONG));
    }
}
