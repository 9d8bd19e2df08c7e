-- A whole group as a node keeps it for those who wait. Rows of members have no partition: member,
-- its number, generation (epoch), session timeout. Rows of assignments: member, partition, topic,
-- number, epoch, how long it may still take to give it up. The first row, without a member, has
-- the group's version as its epoch and is_paused. No row: there is no such group.
create or replace function postrider.group_view(of_group bigint)
returns table (
  member_id text, number bigint, partition_id bigint, topic text, index int, epoch bigint,
  ms bigint, is_paused boolean
) language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  at timestamptz := clock_timestamp();
begin
  return query
    select null::text, null::bigint, null::bigint, null::text, null::int, g.version, null::bigint,
      g.is_paused
    from groups g where g.group_id = of_group and g.deleted_at is null;
  if not found then
    return;
  end if;
  return query
    select m.member_id, m.member_number, null::bigint, null::text, null::int, m.generation,
      m.session_timeout_ms, null::boolean
    from group_members m where m.group_id = of_group;
  return query
    select a.member_id, null::bigint, a.partition_id, a.topic, a.index, a.epoch,
      case when a.revoke_deadline is not null then
        greatest(0, extract(epoch from a.revoke_deadline - at) * 1000)::bigint end,
      null::boolean
    from assignments a where a.group_id = of_group and a.member_id is not null
    order by a.topic, a.index;
end
$$;
