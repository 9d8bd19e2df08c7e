-- Removes offsets below those that were the newest a while ago: entry by entry partition, group,
-- epoch and offset. The newest of each stays, since it is never below itself.
create or replace function postrider.group_prune(
  ids bigint[], group_ids bigint[], epochs bigint[], nexts bigint[]
) returns bigint language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  gone bigint;
begin
  delete from group_offsets o
  using unnest(ids, group_ids, epochs, nexts) u (id, group_id, epoch, next_offset)
  where o.partition_id = u.id and o.group_id = u.group_id
    and (o.epoch, o.next_offset) < (u.epoch, u.next_offset);
  get diagnostics gone = row_count;
  return gone;
end
$$;
