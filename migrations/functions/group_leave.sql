-- A member goes. The caller holds the group's exclusive lock. False: there is no such member.
create or replace function postrider.group_leave(of_group bigint, of_member text)
returns boolean language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  gone bigint;
begin
  delete from group_members m where m.group_id = of_group and m.member_id = of_member
  returning m.member_number into gone;
  if not found then
    return false;
  end if;
  delete from member_heartbeats h where h.member_number = gone;
  update groups g set version = g.version + 1 where g.group_id = of_group;
  return true;
end
$$;
