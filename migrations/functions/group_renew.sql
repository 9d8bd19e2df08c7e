-- After the log got another incarnation: every assignment of the group goes on under a new epoch
-- at the committed offset. What a cursor says about the old one no longer counts. Who was told to
-- give up still is.
create or replace function postrider.group_renew(of_group bigint)
returns bigint language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  renewed bigint;
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  perform 1 from assignments a where a.group_id = of_group and a.log_incarnation <> this_log;
  if not found then
    return 0;
  end if;
  new_epoch := group_next_epoch(of_group);
  with anew as (
    update assignments a set epoch = new_epoch, log_incarnation = this_log
    where a.group_id = of_group and a.log_incarnation <> this_log
    returning a.partition_id, a.tenant_id
  )
  insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
  select anew.partition_id, of_group, new_epoch,
    group_committed(anew.partition_id, of_group), anew.tenant_id
  from anew;
  get diagnostics renewed = row_count;
  return renewed;
end
$$;
