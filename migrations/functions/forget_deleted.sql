-- Takes what is left of deleted topics' partitions behind after_id: rows in buckets that stay, at
-- most max_rows of them; then, once nothing of a partition is left and every node has heard that
-- it is gone, its own row. Returns the last partition that was looked at, null when none follows.
create or replace function postrider.forget_deleted(
  after_id bigint, max_partitions int, max_rows int,
  out last_id bigint, out removed bigint
) language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  part record;
begin
  removed := 0;
  for part in
    select p.partition_id, p.deleted_at < clock_timestamp() - interval '10 minutes' as is_old
    from partitions p where p.deleted_at is not null and p.partition_id > after_id
    order by p.partition_id limit max_partitions
  loop
    removed := removed + (
      select p.removed from purge_hidden(part.partition_id, 0, max_rows - removed::int) p);
    if removed >= max_rows then
      -- The same once more: there may be more of it.
      last_id := part.partition_id - 1;
      return;
    end if;
    last_id := part.partition_id;
    -- Its newest segment outlived a bucket.
    delete from segments s
    where s.partition_id = part.partition_id
      and not exists (select from buckets b where b.bucket_id = s.bucket_id);
    if part.is_old and not exists (
      select from segments s where s.partition_id = part.partition_id)
    then
      delete from partition_lows l where l.partition_id = part.partition_id;
      delete from partitions p where p.partition_id = part.partition_id;
    end if;
  end loop;
end
$$;
