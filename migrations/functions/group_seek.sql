-- Moves partitions of a group to other offsets, while it runs: each gets a new epoch, under which
-- it begins there. Who reads it, and who is told to give it up, stays. Returns those that the
-- group has.
create or replace function postrider.group_seek(of_group bigint, ids bigint[], nexts bigint[])
returns table (partition_id bigint, epoch bigint) language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  new_epoch := group_next_epoch(of_group);
  return query
    with moved as (
      update assignments a set epoch = new_epoch, log_incarnation = this_log
      from unnest(ids, nexts) u (id, next_offset)
      where a.group_id = of_group and a.partition_id = u.id
      returning a.partition_id, a.tenant_id, u.next_offset
    ), begun as (
      insert into group_offsets as o (partition_id, group_id, epoch, next_offset, tenant_id)
      select moved.partition_id, of_group, new_epoch, moved.next_offset, moved.tenant_id
      from moved returning o.partition_id
    )
    select begun.partition_id, new_epoch from begun;
end
$$;
