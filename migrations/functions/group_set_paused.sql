-- Pauses a group or lets it go on. False: there is no such group.
create or replace function postrider.group_set_paused(of_group bigint, paused boolean)
returns boolean language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  update groups g set is_paused = paused, version = g.version + 1
  where g.group_id = of_group and g.deleted_at is null;
  return found;
end
$$;
