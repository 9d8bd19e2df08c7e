//! What a node knew under another incarnation of the log is not acted upon: numbers of partitions
//! may be another topic's there.

use postrider::{
    catalog::Catalog,
    lifecycle::Lifecycle,
    log::Log,
    model::{Clock, Name, TenantId, topic::TopicSettings},
    publish::{Acked, Lane, Offsets, Part, Parts, PublishError, Publisher, Terms},
    record::{Attributes, RecordBuffer, ValueKind},
    store::{Database, Incarnation},
};

use crate::support::TestDatabase;

fn part(topic: &postrider::catalog::Topic) -> Parts {
    let mut records = RecordBuffer::default();
    let attributes = Attributes::new(ValueKind::Json, false);
    records.push(attributes, None, Some(b"1"), std::iter::empty());
    Parts::from_iter([Part { partition: topic.partitions[0], records }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_of_another_incarnation_is_sent_back() {
    let test = TestDatabase::new().await;
    let life = Lifecycle::new();
    let database = Database::new(test.target(), 4);
    database.prepared();
    let log = Log::new(database.clone(), life.clone());
    let mut session = database.connect("test").await.expect("a session");
    log.register(&mut session, "test").await.expect("registered");
    let now = database.incarnation().expect("it was noted");
    let catalog = Catalog::new(log.clone(), life.clone());
    let (tenant, name) = (TenantId(1), Name::parse("orders").expect("a name"));
    catalog.create(tenant, name.clone(), TopicSettings::default()).await.expect("made");
    let topic = catalog.topic(tenant, &name).await.expect("there");
    assert_eq!(topic.incarnation, Some(now));

    let publisher = Publisher::new(log, life.clone(), Clock::default());
    let settings = &topic.settings;
    let lane = |incarnation| Lane {
        class: settings.retention.class(),
        durability: settings.durability,
        compression: settings.compression,
        incarnation,
    };
    let other = Incarnation { timeline: now.timeline + 1, ..now };
    let (stale, fresh) = tokio::join!(
        publisher.publish(lane(Some(other)), part(&topic), Terms::default()),
        publisher.publish(lane(Some(now)), part(&topic), Terms::default()),
    );
    assert_eq!(stale, Err(PublishError::Moved(topic.partitions[0])));
    // One of them alone went back, whether or not they met in a flush.
    let acked = match fresh {
        Ok(acked) => acked,
        Err(error) => {
            assert_eq!(error, PublishError::Moved(topic.partitions[0]));
            let again = publisher.publish(lane(Some(now)), part(&topic), Terms::default());
            again.await.expect("appended")
        }
    };
    let first = Acked::Appended(Offsets::from_elem(0, 1));
    assert_eq!(acked, first, "only one was appended");
    life.abort();
}
