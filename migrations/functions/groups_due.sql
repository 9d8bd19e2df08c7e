-- What the sweep of all groups has to do now: groups with a silent member, with a partition that
-- was not given up in time, with an assignment that is not as it should be, or whose assignments
-- do not know the newest change of the catalog. The last row has no group: in how many ms the
-- next one is due (null: nobody knows of any).
create or replace function postrider.groups_due(alive_ms bigint)
returns table (group_id bigint, next_ms bigint) language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  at timestamptz := clock_timestamp();
  newest bigint := coalesce(
    (select c.change_id from catalog_changes c order by c.change_id desc limit 1), 0);
  first_silent timestamptz;
  first_deadline timestamptz;
begin
  select min(h.seen_at + h.session_timeout_ms * interval '1 millisecond') into first_silent
  from member_heartbeats h
  where h.session_timeout_ms <= alive_ms or alive_ms >= 5000;
  select min(a.revoke_deadline) into first_deadline from assignments a
  where a.revoke_deadline is not null;
  if first_silent < at then
    return query select distinct h.group_id, null::bigint from member_heartbeats h
      where h.seen_at < at - h.session_timeout_ms * interval '1 millisecond'
        and (h.session_timeout_ms <= alive_ms or alive_ms >= 5000);
  end if;
  if first_deadline < at then
    return query select distinct a.group_id, null::bigint from assignments a
      where a.revoke_deadline < at;
  end if;
  return query select distinct a.group_id, null::bigint from assignments a
    where a.member_id is distinct from a.target_id and a.revoke_deadline is null;
  return query select g.group_id, null::bigint from groups g
    where g.catalog_seen < newest and g.deleted_at is null;
  first_silent := least(first_silent, first_deadline);
  -- greatest passes over what is null: where nobody knows of any it would say 0, at once.
  return query select null::bigint, case when first_silent is not null
    then greatest(0, extract(epoch from first_silent - at) * 1000)::bigint end;
end
$$;
