use proptest::prelude::*;

use super::*;
use crate::model::{PartitionId, group::TopicPattern};

fn member(number: usize, topics: &[&str]) -> PlanMember {
    let patterns = topics.iter().map(|text| TopicPattern::parse(text).expect("a pattern"));
    PlanMember { member: format!("m{number:03}"), patterns: patterns.collect() }
}

fn partitions(topic: &str, count: u32, from: i64) -> Vec<PlanPartition> {
    let partition = |index: u32| PlanPartition {
        partition: PartitionId(from + i64::from(index)),
        topic: topic.to_owned(),
        index,
        owner: None,
        target: None,
    };
    (0..count).map(partition).collect()
}

/// Decides, and lets everybody have it.
fn settle(input: &mut PlanInput) -> Vec<Option<String>> {
    let planned = target(input);
    for (partition, planned) in input.partitions.iter_mut().zip(&planned) {
        partition.owner.clone_from(&planned.target);
        partition.target.clone_from(&planned.target);
    }
    planned.into_iter().map(|planned| planned.target).collect()
}

fn loads(input: &PlanInput, owners: &[Option<String>]) -> Vec<usize> {
    let has = |member: &PlanMember| {
        owners.iter().flatten().filter(|owner| **owner == member.member).count()
    };
    input.members.iter().map(has).collect()
}

proptest! {
    #[test]
    fn shares_differ_by_one_at_most_and_no_more_moves_than_must(
        before in 1_usize..20, after in 1_usize..20, first in 0_usize..20, count in 0_u32..64,
    ) {
        let join = |from: usize, many: usize| {
            (from..from + many).map(|number| member(number, &["a"])).collect::<Vec<_>>()
        };
        let (members, partitions) = (join(0, before), partitions("a", count, 1));
        let mut input = PlanInput { members, partitions, renewed: None };
        let stood = settle(&mut input);
        let shares = loads(&input, &stood);
        prop_assert!(shares.iter().max() <= shares.iter().min().map(|least| least + 1).as_ref());
        input.members = join(first, after);
        let stands = settle(&mut input);
        prop_assert!(stands.iter().all(Option::is_some));
        let shares = loads(&input, &stands);
        prop_assert!(shares.iter().max() <= shares.iter().min().map(|least| least + 1).as_ref());
        // Who stays keeps what fits into its share.
        let least = count as usize / after;
        for (at, one) in input.members.iter().enumerate() {
            let had = stood.iter().flatten().filter(|owner| **owner == one.member).count();
            let kept = stood.iter().zip(&stands)
                .filter(|(was, is)| was == is && is.as_ref() == Some(&one.member)).count();
            prop_assert!(kept >= had.min(least), "{at}: {kept} of {had}, share {least}");
        }
        prop_assert_eq!(settle(&mut input), stands, "nothing changed, and something moved");
    }
}

#[test]
fn a_partition_goes_to_a_member_that_asks_for_its_topic() {
    let members = vec![member(1, &["a"]), member(2, &["b.*"]), member(3, &["a", "b.*"])];
    let mut all = partitions("a", 4, 1);
    all.extend(partitions("b.x", 4, 10));
    all.extend(partitions("c", 1, 20));
    let mut input = PlanInput { members, partitions: all, renewed: None };
    let owners = settle(&mut input);
    let of = |range: std::ops::Range<usize>, name: &str| {
        owners[range].iter().flatten().filter(|owner| *owner == name).count()
    };
    assert_eq!(of(4..8, "m001") + of(0..4, "m002"), 0, "{owners:?}");
    assert_eq!(owners[8], None);
    assert_eq!(owners.iter().flatten().count(), 8);
    let shares = loads(&input, &owners);
    assert!(shares.iter().all(|share| (2..=3).contains(share)), "{shares:?}");
}

#[test]
fn what_a_member_took_over_from_itself_moves_at_once() {
    let members = vec![member(1, &["a"]), member(2, &["a"])];
    let mut input = PlanInput { members, partitions: partitions("a", 4, 1), renewed: None };
    settle(&mut input);
    input.renewed = Some("m001".to_owned());
    let planned = target(&input);
    for (partition, planned) in input.partitions.iter().zip(planned) {
        assert_eq!(planned.target, partition.target);
        assert_eq!(planned.at_once, partition.owner.as_deref() == Some("m001"));
    }
}
