-- Deletes a group: members, assignments, offsets, and the keys of requests to it, by which a group
-- made again under the name would be answered for this one. Its row stays for its epochs alone.
-- False: there is no such group.
create or replace function postrider.group_delete(of_group bigint)
returns boolean language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  of_tenant bigint;
  requests text;
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  update groups g set deleted_at = clock_timestamp(), version = g.version + 1
  where g.group_id = of_group and g.deleted_at is null
  returning g.tenant_id, 'POST /groups/' || g.name into of_tenant, requests;
  if not found then
    return false;
  end if;
  -- From the slash behind the name to the character after it.
  delete from idempotency_keys k
  where k.tenant_id = of_tenant and k.scope >= requests || '/' and k.scope < requests || '0';
  delete from member_heartbeats h using group_members m
  where m.group_id = of_group and h.member_number = m.member_number;
  delete from group_members m where m.group_id = of_group;
  delete from group_offsets o using assignments a
  where a.group_id = of_group and o.partition_id = a.partition_id and o.group_id = of_group;
  delete from assignments a where a.group_id = of_group;
  return true;
end
$$;
