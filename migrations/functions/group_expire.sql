-- Members that were silent for longer than their session timeout go. The caller holds the group's
-- exclusive lock; a beat that comes meanwhile keeps its member, since the row is looked at again
-- under its own lock. A node that has seen the database only for alive_ms leaves alone whoever
-- could not be heard: neither could the others. Returns whether there is anything to be done:
-- every node sweeps, and one of them may have been here a moment ago.
create or replace function postrider.group_expire(of_group bigint, alive_ms bigint)
returns boolean language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  gone bigint;
  at timestamptz := clock_timestamp();
begin
  with silent as (
    delete from member_heartbeats h
    where h.group_id = of_group
      and h.seen_at < clock_timestamp() - h.session_timeout_ms * interval '1 millisecond'
      and (h.session_timeout_ms <= alive_ms or alive_ms >= 5000)
    returning h.member_number
  )
  delete from group_members m using silent where m.member_number = silent.member_number;
  get diagnostics gone = row_count;
  update groups g set version = g.version + 1 where gone > 0 and g.group_id = of_group;
  return gone > 0
    or exists (select from assignments a where a.group_id = of_group and (a.revoke_deadline < at
      or (a.member_id is distinct from a.target_id and a.revoke_deadline is null)))
    or exists (select from groups g where g.group_id = of_group and g.deleted_at is null
      and g.catalog_seen < (select max(c.change_id) from catalog_changes c));
end
$$;
