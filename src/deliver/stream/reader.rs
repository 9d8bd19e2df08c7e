//! One consumer's places in all that it reads, each a portion at a time.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use tokio::time::sleep;

use super::{
    Ended, Filter, Mailbox, Page, PageError, Streams, TopicStream,
    mailbox::Ear,
    place::Place,
    portion::{Part, Portion, Room},
    ring::Take,
};
use crate::{log::ReadError, model::PartitionId, telemetry::metrics::STREAMS};

/// Messages of one page of a consumer that is behind.
const PAGE_MESSAGES: u32 = 5_000;
/// Between two tries to read what cannot be read now.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Topic {
    stream: Arc<TopicStream>,
    ear: Arc<Ear>,
    version: u64,
    /// Whether partitions that come are read too.
    grows: bool,
    places: Vec<Place>,
}

/// Which place: of the reader's topics, and of that topic's places.
type At = (u32, u32);

type Fetched = (At, i64, Result<Page, PageError>);

/// What a reader tells its consumer.
#[derive(Debug)]
pub enum Read {
    /// Messages.
    Portion(Portion),
    /// Something could be sent if there were room for it.
    Full,
    /// A topic cannot be read on.
    Ended(Arc<TopicStream>, Ended),
    /// A partition cannot be read on.
    Failed(Arc<TopicStream>, u32, PageError),
}

/// All that one consumer reads.
#[derive(Debug)]
pub struct Reader {
    streams: Streams,
    mailbox: Arc<Mailbox>,
    /// The number of the consumer in the upper half of its ears' keys.
    number: u32,
    topics: Vec<Topic>,
    /// Which place each ear belongs to, by its number; a topic's own has no place.
    ears: Vec<(u32, Option<u32>)>,
    ready: VecDeque<At>,
    changed: Vec<u32>,
    fetches: FuturesUnordered<BoxFuture<'static, Fetched>>,
    filter: Option<Filter>,
}

impl Reader {
    /// A reader of nothing yet, whose news comes into `mailbox` with `number` in the upper half
    /// of each key.
    pub fn new(
        streams: Streams,
        mailbox: Arc<Mailbox>,
        number: u32,
        filter: Option<Filter>,
    ) -> Self {
        Self {
            streams,
            mailbox,
            number,
            topics: Vec::new(),
            ears: Vec::new(),
            ready: VecDeque::new(),
            changed: Vec::new(),
            fetches: FuturesUnordered::new(),
            filter,
        }
    }

    fn ear(&mut self, topic: u32, place: Option<u32>) -> Arc<Ear> {
        let key = u64::from(self.number) << 32 | self.ears.len() as u64;
        self.ears.push((topic, place));
        Ear::new(&self.mailbox, key)
    }

    /// Reads partitions of a topic from these offsets on; with `grows` also those that come, from
    /// their beginning.
    pub fn add(&mut self, stream: Arc<TopicStream>, places: &[(u32, i64)], grows: bool) {
        let topic = self.topics.len() as u32;
        let ear = self.ear(topic, None);
        let version = stream.version();
        stream.watch(&ear);
        self.topics.push(Topic { stream, ear, version, grows, places: Vec::new() });
        for (number, next) in places {
            self.add_place(topic, *number, *next);
        }
        // It may have ended or grown before it was watched.
        self.changed.push(topic);
    }

    fn add_place(&mut self, topic: u32, number: u32, next: i64) {
        let place = self.topics[topic as usize].places.len() as u32;
        let ear = self.ear(topic, Some(place));
        let topic_at = &mut self.topics[topic as usize];
        // A partition that is not there is one of a topic that has ended, which is told.
        let Some(listening) = topic_at.stream.listen(number, &ear) else { return };
        let (page, admitted) = (None, None);
        topic_at.places.push(Place {
            number,
            listening,
            ear,
            next,
            is_ready: true,
            page,
            admitted,
        });
        self.ready.push_back((topic, place));
    }

    /// One of its ears heard something.
    pub fn heard(&mut self, key: u64) {
        match self.ears.get(key as u32 as usize) {
            Some((topic, None)) => self.changed.push(*topic),
            Some((topic, Some(place))) => self.is_ready((*topic, *place)),
            None => {}
        }
    }

    fn is_ready(&mut self, at: At) {
        let place = &mut self.topics[at.0 as usize].places[at.1 as usize];
        if !place.is_ready {
            place.is_ready = true;
            self.ready.push_back(at);
        }
    }

    /// Whether pages are on their way to it.
    pub fn is_fetching(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// The topics that are read.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicStream>> {
        self.topics.iter().map(|topic| &topic.stream)
    }

    /// How many partitions are read.
    pub fn partitions(&self) -> usize {
        self.topics.iter().map(|topic| topic.places.len()).sum()
    }

    /// Where it goes on: topic, partition and the offset of the next message. What was let
    /// through and is not sent yet still lies before it.
    pub fn positions(&self) -> impl Iterator<Item = (&Arc<TopicStream>, u32, i64)> {
        self.topics.iter().flat_map(|topic| {
            topic.places.iter().map(|place| (&topic.stream, place.number, place.next))
        })
    }

    /// Lets go of pages that cannot be sent at the moment: they are read again.
    pub fn let_go(&mut self) {
        for place in self.topics.iter_mut().flat_map(|topic| &mut topic.places) {
            (place.page, place.admitted) = (None, None);
        }
    }

    /// Whether it holds pages of its own.
    pub fn holds_pages(&self) -> bool {
        self.topics.iter().flat_map(|topic| &topic.places).any(|place| place.page.is_some())
    }

    /// What is there for the consumer, who has so much room. Pending: nothing; the task of `cx`
    /// is woken by pages that come, and by the mailbox.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, room: Room) -> Poll<Read> {
        while let Some(topic) = self.changed.pop() {
            if let Some(ended) = self.look(topic) {
                let stream = Arc::clone(&self.topics[topic as usize].stream);
                return Poll::Ready(Read::Ended(stream, ended));
            }
        }
        loop {
            while let Poll::Ready(Some((at, from, fetched))) = self.fetches.poll_next_unpin(cx) {
                if let Some(failed) = self.fetched(at, from, fetched) {
                    return Poll::Ready(failed);
                }
            }
            let asked = self.fetches.len();
            if let Some(read) = self.next_ready(room) {
                return Poll::Ready(read);
            }
            // What was asked for just now has to be waited for.
            if self.fetches.len() == asked {
                return Poll::Pending;
            }
        }
    }

    fn next_ready(&mut self, room: Room) -> Option<Read> {
        while let Some(at) = self.ready.front().copied() {
            if room.is_none() {
                return Some(Read::Full);
            }
            match self.take(at, room) {
                Taken::Portion(portion) => {
                    // The others have their turn before it goes on.
                    self.ready.rotate_left(1);
                    return Some(Read::Portion(portion));
                }
                Taken::Passed => {}
                Taken::Full => return Some(Read::Full),
                Taken::Nothing => {
                    self.ready.pop_front();
                }
                Taken::Failed(error) => {
                    let topic = &self.topics[at.0 as usize];
                    let number = topic.places[at.1 as usize].number;
                    return Some(Read::Failed(Arc::clone(&topic.stream), number, error));
                }
            }
        }
        None
    }

    /// Looks whether a topic has ended or has other partitions.
    fn look(&mut self, at: u32) -> Option<Ended> {
        let topic = &mut self.topics[at as usize];
        topic.ear.listen();
        if let Some(ended) = topic.stream.ended() {
            return Some(ended);
        }
        let version = topic.stream.version();
        if version == topic.version {
            return None;
        }
        topic.version = version;
        for place in &mut topic.places {
            if let Some(listening) = topic.stream.listen(place.number, &place.ear) {
                place.listening = listening;
            }
        }
        let (before, now) =
            (topic.places.len() as u32, topic.stream.topic().partitions.len() as u32);
        let grows = topic.grows;
        (0..topic.places.len() as u32).for_each(|place| self.is_ready((at, place)));
        if grows {
            (before..now).for_each(|number| self.add_place(at, number, 0));
        }
        None
    }

    fn take(&mut self, at: At, room: Room) -> Taken {
        let topic = &mut self.topics[at.0 as usize];
        let place = &mut topic.places[at.1 as usize];
        if place.page.as_ref().is_some_and(|page| page.chunk.until <= place.next) {
            place.page = None;
        }
        let chunk = match &place.page {
            Some(page) => Arc::clone(&page.chunk),
            None => match place.taken() {
                Take::Found(chunk) => chunk,
                Take::Nothing => {
                    place.is_ready = false;
                    return Taken::Nothing;
                }
                Take::Behind => {
                    let (id, from) = (place.listening.feed().id(), place.next);
                    self.fetch(at, id, from, room);
                    return Taken::Nothing;
                }
            },
        };
        let first = (place.next - chunk.from) as usize;
        let part = match &self.filter {
            None => Part::of(&chunk, first, room),
            Some(filter) => match place.admitted(&chunk, filter) {
                Ok(admitted) => Part::of_admitted(&chunk, first, room, admitted),
                Err(corrupt) => return Taken::Failed(corrupt.into()),
            },
        };
        let Some(part) = part else { return Taken::Full };
        place.next = part.until;
        if part.is_empty() {
            return Taken::Passed;
        }
        let (stream, partition) = (Arc::clone(&topic.stream), place.number);
        Taken::Portion(Portion { stream, partition, chunk, part })
    }

    /// Reads a page behind which the others may be found. The place is ready again when it came.
    fn fetch(&mut self, at: At, id: PartitionId, from: i64, room: Room) {
        let streams = self.streams.clone();
        let limit = match &self.filter {
            Some(_) => PAGE_MESSAGES,
            None => room.messages.clamp(1, PAGE_MESSAGES as usize) as u32,
        };
        STREAMS.pages.increment(1);
        self.fetches.push(Box::pin(async move {
            let page = streams.page(id, from, limit).await;
            if page.as_ref().err().is_some_and(is_passing) {
                sleep(RETRY_PAUSE).await;
            }
            (at, from, page)
        }));
    }

    fn fetched(&mut self, at: At, from: i64, fetched: Result<Page, PageError>) -> Option<Read> {
        let topic = &mut self.topics[at.0 as usize];
        let place = &mut topic.places[at.1 as usize];
        match fetched {
            Ok(page) if place.next == from && !page.chunk.is_empty() => place.page = Some(page),
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(PageError::Read(ReadError::Gone)) => {
                // Its topic ends, which is told; until then there is nothing to be read.
                self.streams.look();
                place.is_ready = false;
                return None;
            }
            Err(error) => {
                let stream = Arc::clone(&topic.stream);
                return Some(Read::Failed(stream, place.number, error));
            }
        }
        self.ready.push_back(at);
        None
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.topics.iter().for_each(|topic| topic.stream.unwatch(&topic.ear));
    }
}

/// Whether it may be read a little later.
fn is_passing(error: &PageError) -> bool {
    match error {
        PageError::Read(ReadError::Store(_) | ReadError::Unsettled(_) | ReadError::Unfinished) => {
            true
        }
        PageError::Read(ReadError::Gone | ReadError::OutOfRange(_)) | PageError::Corrupt(_) => {
            false
        }
    }
}

enum Taken {
    Portion(Portion),
    /// Nothing of it is for this consumer.
    Passed,
    Full,
    Nothing,
    Failed(PageError),
}
