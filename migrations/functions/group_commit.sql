-- Commits offsets: entry by entry partition, epoch, next offset, and whether the node knows by
-- itself that the offset is not above the end. outcome: 0 it stands, 1 the epoch is stale or the
-- partition is nobody's, 2 above the end (high tells where that is), 3 the log has another
-- incarnation: the epoch is to be renewed.
--
-- The lock is a statement of its own, and only later ones look at the epoch: as one statement 866
-- of 2,687 accepted commits came after the next owner's start.
create or replace function postrider.group_commit(
  of_group bigint, ids bigint[], epochs bigint[], nexts bigint[], vouched boolean[]
) returns table (outcome smallint, high bigint) language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  this_log text;
  standing postrider.assignments;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a commit of offsets needs read committed' using errcode = '25001';
  end if;
  perform pg_advisory_xact_lock_shared(360287970189639680 + of_group);
  this_log := log_incarnation();
  for i in 1 .. cardinality(ids) loop
    outcome := 0;
    high := null;
    perform 1 from group_offsets o
    where o.partition_id = ids[i] and o.group_id = of_group and o.epoch = epochs[i]
      and o.next_offset >= nexts[i]
    limit 1;
    if not found then
      select * into standing from assignments a
      where a.group_id = of_group and a.partition_id = ids[i];
      if standing.epoch is distinct from epochs[i] or standing.member_id is null then
        outcome := 1;
      elsif standing.log_incarnation <> this_log then
        outcome := 3;
      else
        if not vouched[i] then
          select w.high into high from watermarks(ids[i]) w;
        end if;
        if nexts[i] > high or (high is null and not vouched[i]) then
          outcome := 2;
        else
          insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
          values (ids[i], of_group, epochs[i], nexts[i], standing.tenant_id)
          on conflict do nothing;
        end if;
      end if;
    end if;
    return next;
  end loop;
end
$$;
