//! Every metric of the service, in one place. Names are `postrider_<stage>_<what>_<unit>`.
//! Handles are made once; what counts on a hot path is one atomic operation.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::lifecycle::Lifecycle;

/// Upper bounds of all histograms of seconds.
const SECONDS: [f64; 13] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// At 100,000 requests a second a histogram holds 800 KB between two upkeeps.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// The recorder of this process, installed at the first call.
fn handle() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the list of bounds is not empty")
            .build_recorder();
        let handle = recorder.handle();
        // A recorder that someone else installed keeps its place; ours then stays empty.
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}

/// All metrics as Prometheus reads them.
pub fn render() -> String {
    LazyLock::force(&API);
    LazyLock::force(&LOG);
    LazyLock::force(&GROUPS);
    LazyLock::force(&STREAMS);
    handle().render()
}

/// Sorts what histograms collected, which otherwise grows until the next [`render`].
fn upkeep() {
    handle().run_upkeep();
}

/// Keeps histograms small until the node drains.
pub async fn run(lifecycle: Lifecycle) {
    let mut each = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = each.tick() => upkeep(),
            () = lifecycle.draining() => return,
        }
    }
}

/// A counter that starts at 0.
pub fn counter(name: &'static str, help: &'static str) -> Counter {
    handle();
    metrics::describe_counter!(name, help);
    metrics::counter!(name)
}

/// A counter with one label.
pub fn counter_of(
    name: &'static str,
    help: &'static str,
    label: (&'static str, &'static str),
) -> Counter {
    handle();
    metrics::describe_counter!(name, help);
    metrics::counter!(name, label.0 => label.1)
}

/// A gauge that starts at 0.
pub fn gauge(name: &'static str, help: &'static str) -> Gauge {
    handle();
    metrics::describe_gauge!(name, help);
    let gauge = metrics::gauge!(name);
    gauge.set(0.0);
    gauge
}

/// A histogram; of seconds where the name says so.
pub fn histogram(name: &'static str, help: &'static str) -> Histogram {
    handle();
    metrics::describe_histogram!(name, help);
    metrics::histogram!(name)
}

/// The way in.
pub static API: LazyLock<Api> = LazyLock::new(Api::new);

/// Metrics of the way in.
pub struct Api {
    /// Requests answered, by class of status; index 0 is 1xx.
    requests: [Counter; 5],
    /// From the whole head to the answer's head.
    pub request_seconds: Histogram,
    /// Connections over the cap.
    pub connections_refused: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Handlers that panicked.
    pub panics: Counter,
}

impl Api {
    fn new() -> Self {
        let answered = |class| {
            counter_of(
                "postrider_api_requests_total",
                "Requests answered, by class of status.",
                ("status", class),
            )
        };
        Self {
            requests: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(answered),
            request_seconds: histogram(
                "postrider_api_request_seconds",
                "From a request's whole head to its answer, long polls with their wait.",
            ),
            connections_refused: counter(
                "postrider_api_connections_refused_total",
                "Connections refused because the node had as many as it takes on.",
            ),
            connections: gauge("postrider_api_connections", "Connections open now."),
            panics: counter("postrider_api_panics_total", "Handlers that panicked."),
        }
    }

    /// The counter of answers of `status`.
    pub fn answered(&self, status: u16) -> &Counter {
        &self.requests[usize::from(status / 100).clamp(1, 5) - 1]
    }
}

/// Metrics of the log.
pub static LOG: LazyLock<LogMetrics> = LazyLock::new(LogMetrics::new);

/// Publishing, appending and reading.
pub struct LogMetrics {
    /// Messages committed.
    pub published: Counter,
    /// Bytes of record batches committed.
    pub appended_bytes: Counter,
    /// Flushes committed: the fewer for the same messages, the fatter they are.
    pub flushes: Counter,
    /// Flushes that were refused or whose outcome is not known.
    pub flushes_failed: Counter,
    /// From sending a flush to its commit.
    pub append_seconds: Histogram,
    /// Looks at other nodes' wakes.
    pub looks: Counter,
    /// Words sent to other nodes.
    pub notifications_sent: Counter,
    /// Words heard, this node's own among them.
    pub notifications_heard: Counter,
    /// Pages read from the database.
    pub pages: Counter,
    /// Pages answered from the tail cache.
    pub cached_pages: Counter,
    /// Reads that wait for a message now.
    pub parked: Gauge,
}

impl LogMetrics {
    fn new() -> Self {
        Self {
            published: counter("postrider_publish_messages_total", "Messages committed."),
            appended_bytes: counter(
                "postrider_append_bytes_total",
                "Bytes of record batches committed.",
            ),
            flushes: counter("postrider_append_flushes_total", "Flushes committed."),
            flushes_failed: counter(
                "postrider_append_flushes_failed_total",
                "Flushes that were refused or whose outcome is not known.",
            ),
            append_seconds: histogram(
                "postrider_append_flush_seconds",
                "From sending a flush to its commit.",
            ),
            looks: counter("postrider_wake_looks_total", "Looks at what other nodes appended."),
            notifications_sent: counter(
                "postrider_notifications_sent_total",
                "Notifications sent to other nodes.",
            ),
            notifications_heard: counter(
                "postrider_notifications_heard_total",
                "Notifications heard, this node's own among them.",
            ),
            pages: counter("postrider_read_pages_total", "Pages read from the database."),
            cached_pages: counter(
                "postrider_read_cached_pages_total",
                "Pages answered from the tail cache.",
            ),
            parked: gauge("postrider_read_parked", "Reads that wait for a message now."),
        }
    }
}

/// Metrics of consumer groups.
pub static GROUPS: LazyLock<GroupMetrics> = LazyLock::new(GroupMetrics::new);

/// Membership, delivery and commits.
pub struct GroupMetrics {
    /// Members that joined or came back.
    pub joins: Counter,
    /// Messages delivered to members.
    pub delivered: Counter,
    /// Offsets that were committed.
    pub commits: Counter,
    /// Offsets that were refused.
    pub commits_refused: Counter,
    /// Partitions that members gave up when they were told to.
    pub revokes: Counter,
    /// Groups in which the sweep changed something.
    pub repairs: Counter,
    /// Heartbeats written down.
    pub beats: Counter,
}

impl GroupMetrics {
    fn new() -> Self {
        Self {
            joins: counter("postrider_group_joins_total", "Members that joined or came back."),
            delivered: counter(
                "postrider_group_messages_total",
                "Messages delivered to members of groups.",
            ),
            commits: counter("postrider_group_commits_total", "Offsets committed by groups."),
            commits_refused: counter(
                "postrider_group_commits_refused_total",
                "Offsets of groups that were refused: of a passed epoch, or above the end.",
            ),
            revokes: counter(
                "postrider_group_revokes_total",
                "Partitions that members gave up when they were told to.",
            ),
            repairs: counter(
                "postrider_group_repairs_total",
                "Groups in which the sweep expired a member, took a partition or assigned anew.",
            ),
            beats: counter("postrider_group_beats_total", "Heartbeats of members written down."),
        }
    }
}

/// Sockets, and readers that feed them.
pub static STREAMS: LazyLock<StreamMetrics> = LazyLock::new(StreamMetrics::new);

/// Sockets, event streams, and readers that feed them.
pub struct StreamMetrics {
    /// Sockets that are open.
    pub sockets: Gauge,
    /// Partitions that are read for sockets and event streams.
    pub feeds: Gauge,
    /// Times that a reader found messages.
    pub rounds: Counter,
    /// Messages sent to sockets and event streams.
    pub delivered: Counter,
    /// Pages that consumers read by themselves because they were behind.
    pub pages: Counter,
}

impl StreamMetrics {
    fn new() -> Self {
        Self {
            sockets: gauge("postrider_socket_open", "Sockets that are open."),
            feeds: gauge("postrider_stream_feeds", "Partitions that are read for consumers."),
            rounds: counter("postrider_stream_rounds_total", "Times that a reader found messages."),
            delivered: counter(
                "postrider_stream_messages_total",
                "Messages sent to sockets and event streams.",
            ),
            pages: counter(
                "postrider_stream_pages_total",
                "Pages read by consumers that were behind.",
            ),
        }
    }
}
