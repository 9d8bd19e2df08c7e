-- Deletes a group: members, assignments, offsets. Its row stays for its epochs alone. False: there
-- is no such group.
create or replace function postrider.group_delete(of_group bigint)
returns boolean language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  update groups g set deleted_at = clock_timestamp(), version = g.version + 1
  where g.group_id = of_group and g.deleted_at is null;
  if not found then
    return false;
  end if;
  delete from member_heartbeats h using group_members m
  where m.group_id = of_group and h.member_number = m.member_number;
  delete from group_members m where m.group_id = of_group;
  delete from group_offsets o using assignments a
  where a.group_id = of_group and o.partition_id = a.partition_id and o.group_id = of_group;
  delete from assignments a where a.group_id = of_group;
  return true;
end
$$;
