-- Enters a member. The caller holds the group's exclusive lock. outcome: 0 a member that was not
-- there, 1 the same join again, 2 a later process takes over, 3 a later generation stands, 4 this
-- generation stands with other settings.
create or replace function postrider.group_join(
  of_group bigint, of_member text, wanted bigint, wanted_patterns text[], timeout_ms bigint,
  first_start text, out outcome smallint, out generation bigint, out member_number bigint
) language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  standing postrider.group_members;
begin
  update groups g set deleted_at = null, created_at = clock_timestamp(), is_paused = false,
    start = first_start, catalog_seen = 0, start_upto = coalesce(
      (select p.partition_id from partitions p order by p.partition_id desc limit 1), 0)
  where g.group_id = of_group and g.deleted_at is not null;
  select * into standing from group_members m
  where m.group_id = of_group and m.member_id = of_member;
  outcome := case when found then 2 else 0 end;
  if found and wanted <= standing.generation then
    outcome := case when wanted < standing.generation then 3
      when standing.patterns = wanted_patterns and standing.session_timeout_ms = timeout_ms then 1
      else 4 end;
    generation := standing.generation;
    member_number := standing.member_number;
    return;
  end if;
  -- Without a number the clock's: one that left or was silent had a lower one.
  generation := coalesce(wanted, standing.generation + 1,
    (extract(epoch from clock_timestamp()) * 1000)::bigint);
  delete from member_heartbeats h where h.member_number = standing.member_number;
  delete from group_members m where m.group_id = of_group and m.member_id = of_member;
  insert into group_members as m
    (group_id, member_id, tenant_id, generation, patterns, session_timeout_ms)
  select of_group, of_member, g.tenant_id, group_join.generation, wanted_patterns, timeout_ms
  from groups g where g.group_id = of_group
  returning m.member_number into group_join.member_number;
  update groups g set version = g.version + 1 where g.group_id = of_group;
  insert into member_heartbeats (member_number, tenant_id, group_id, session_timeout_ms, seen_at)
  select group_join.member_number, g.tenant_id, of_group, timeout_ms, clock_timestamp()
  from groups g where g.group_id = of_group;
end
$$;
