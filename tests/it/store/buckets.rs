//! Nodes that start at once make the buckets of an empty database together.

use futures_util::future::join_all;
use postrider::maintenance;

use crate::support::TestDatabase;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_make_each_bucket_once() {
    for round in 0..5 {
        let database = TestDatabase::with_windows("1 day").await;
        let prepared = (0..6).map(async |_| {
            let mut session = database.connect().await;
            maintenance::prepare_buckets(&mut session).await
        });
        for prepared in join_all(prepared).await {
            prepared.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        let classes = "select count(*) from (
            select from postrider.buckets group by retention_class
            having count(*) filter (where state = 'open') = 1
              and count(*) filter (where state = 'ahead') = 2 and count(*) = 3) c";
        assert_eq!(database.number(classes).await, 5, "round {round}");
        let attached = "select count(*) from pg_inherits
            where inhparent = 'postrider.batches'::regclass";
        assert_eq!(database.number(attached).await, 15, "round {round}");
    }
}
