-- A member gives up what it was told to: the successors have it at once, under new epochs, from
-- the committed offset on. What is not in revoke under that epoch is passed over. Returns how
-- many partitions moved.
create or replace function postrider.group_confirm(
  of_group bigint, of_member text, of_generation bigint, ids bigint[], epochs bigint[]
) returns bigint language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  moved bigint;
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  perform 1 from group_members m
  where m.group_id = of_group and m.member_id = of_member and m.generation = of_generation;
  if not found then
    return 0;
  end if;
  perform 1 from unnest(ids, epochs) u (id, epoch)
  join assignments a on a.group_id = of_group and a.partition_id = u.id and a.epoch = u.epoch
    and a.member_id = of_member and a.revoke_deadline is not null;
  if not found then
    return 0;
  end if;
  new_epoch := group_next_epoch(of_group);
  with given as (
    update assignments a set member_id = a.target_id, revoke_deadline = null, epoch = new_epoch,
      log_incarnation = this_log
    from unnest(ids, epochs) u (id, epoch)
    where a.group_id = of_group and a.partition_id = u.id and a.epoch = u.epoch
      and a.member_id = of_member and a.revoke_deadline is not null
    returning a.partition_id, a.tenant_id
  )
  insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
  select given.partition_id, of_group, new_epoch,
    group_committed(given.partition_id, of_group), given.tenant_id
  from given;
  get diagnostics moved = row_count;
  return moved;
end
$$;
