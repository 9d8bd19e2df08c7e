-- What a member has now. The first row is about the group and has no partition: epoch is the
-- member's generation (null: there is no such member), committed the group's version, is_current
-- whether it is paused. Then a row for each partition: its epoch, how long it may still take to
-- give it up (null: it keeps it), the committed offset, and whether the epoch was made in this
-- incarnation of the log.
create or replace function postrider.group_check(of_group bigint, of_member text)
returns table (
  partition_id bigint, topic text, index int, epoch bigint, revoke_ms bigint, committed bigint,
  is_current boolean
) language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  this_log text := log_incarnation();
  at timestamptz := clock_timestamp();
begin
  return query
    select null::bigint, g.name, null::int, m.generation, null::bigint, g.version, g.is_paused
    from groups g
    left join group_members m on m.group_id = g.group_id and m.member_id = of_member
    where g.group_id = of_group and g.deleted_at is null;
  return query
    select a.partition_id, a.topic, a.index, a.epoch,
      case when a.revoke_deadline is not null then
        greatest(0, extract(epoch from a.revoke_deadline - at) * 1000)::bigint end,
      group_committed(a.partition_id, of_group), a.log_incarnation = this_log
    from assignments a
    where a.group_id = of_group and a.member_id = of_member
    order by a.topic, a.index;
end
$$;
