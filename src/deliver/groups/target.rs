//! Who is to have which partition: a function of members and partitions. It is sticky: what
//! stands is kept as long as the members' shares differ by no more than one.

use std::{collections::HashMap, rc::Rc};

use crate::store::groups::{PlanInput, PlanMember, PlanPartition, Planned};

/// The target of a group.
pub fn target(input: &PlanInput) -> Vec<Planned> {
    let eligible = eligible(input);
    let mut owners = kept(input, &eligible);
    let mut loads = vec![0_usize; input.members.len()];
    owners.iter().flatten().for_each(|owner| loads[*owner] += 1);
    for (at, owner) in owners.iter_mut().enumerate() {
        if owner.is_none() {
            *owner = eligible[at].iter().copied().min_by_key(|member| (loads[*member], *member));
            owner.iter().for_each(|member| loads[*member] += 1);
        }
    }
    balance(input, &eligible, &mut owners, &mut loads);
    let planned = |(at, owner): (usize, Option<usize>)| Planned {
        target: owner.map(|member| input.members[member].member.clone()),
        at_once: input.renewed.is_some() && input.partitions[at].owner == input.renewed,
    };
    owners.into_iter().enumerate().map(planned).collect()
}

/// For each partition the members that ask for its topic.
fn eligible(input: &PlanInput) -> Vec<Rc<[usize]>> {
    let mut of_topic: HashMap<&str, Rc<[usize]>> = HashMap::new();
    for partition in &input.partitions {
        of_topic.entry(&partition.topic).or_insert_with(|| {
            let asks = |member: &PlanMember| {
                member.patterns.iter().any(|pattern| pattern.matches(&partition.topic))
            };
            let members = input.members.iter().enumerate();
            members.filter(|(_, member)| asks(member)).map(|(at, _)| at).collect()
        });
    }
    let of = |partition: &PlanPartition| Rc::clone(&of_topic[partition.topic.as_str()]);
    input.partitions.iter().map(of).collect()
}

/// What stays as it was decided, or else with whoever has it.
fn kept(input: &PlanInput, eligible: &[Rc<[usize]>]) -> Vec<Option<usize>> {
    let by_name: HashMap<&str, usize> =
        input.members.iter().enumerate().map(|(at, member)| (&*member.member, at)).collect();
    let keep = |(at, partition): (usize, &PlanPartition)| {
        let stands = [&partition.target, &partition.owner].into_iter().flatten();
        let mut members = stands.filter_map(|name| by_name.get(name.as_str()).copied());
        members.find(|member| eligible[at].contains(member))
    };
    input.partitions.iter().enumerate().map(keep).collect()
}

/// Moves single partitions from who has more to who has at least two less, until nobody does.
/// Those go first that their holder has not got yet.
fn balance(
    input: &PlanInput,
    eligible: &[Rc<[usize]>],
    owners: &mut [Option<usize>],
    loads: &mut [usize],
) {
    loop {
        let best = owners.iter().enumerate().filter_map(|(at, owner)| {
            let from = (*owner)?;
            let to = eligible[at].iter().copied().min_by_key(|member| (loads[*member], *member))?;
            let gain = loads[from].checked_sub(loads[to]).filter(|gain| *gain >= 2)?;
            let partition = &input.partitions[at];
            let owned_by = |member: usize| {
                partition.owner.as_deref() == Some(input.members[member].member.as_str())
            };
            // Back to who still has it, else one that is on its way anyhow, else the last ones.
            let ease = if owned_by(to) { 2 } else { usize::from(!owned_by(from)) };
            Some(((gain, ease, at), at, from, to))
        });
        let Some((_, at, from, to)) = best.max_by_key(|(rank, ..)| *rank) else { return };
        owners[at] = Some(to);
        loads[from] -= 1;
        loads[to] += 1;
    }
}

#[cfg(test)]
#[path = "target/tests.rs"]
mod tests;
