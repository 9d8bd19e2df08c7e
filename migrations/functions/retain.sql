-- Hides what is beyond the limits of its topic: moves the low watermarks of these partitions and
-- tells all nodes. One row for each partition of a topic that stands: its low watermark, when to
-- look again (in ms, a century where there is no limit; null: not before something is appended),
-- whether it has a limit of bytes, and whether what is hidden has to be removed row by row, since
-- its bucket stays.
--
-- A batch goes by time when all of it is older than `retention`, by bytes when all of it lies
-- before the newest `retention_bytes`; so neither takes a message that is inside the limit. The
-- low watermark only rises, though a limit be raised later.
--
-- The catalog's lock is held, shared: a longer limit that was acknowledged is never overtaken by
-- a look that began under the shorter one.
create or replace function postrider.retain(ids bigint[])
returns table (
  partition_id bigint, low_offset bigint, due_ms bigint, by_bytes boolean, purges boolean)
language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  part record;
  limits record;
  oldest record;
  newest postrider.segments;
  keep interval;
  low bigint;
  wanted bigint;
  byte bigint;
  moved bigint[] := '{}';
begin
  perform pg_advisory_xact_lock_shared(216172782113783808);
  for part in
    select p.partition_id, p.owner_id from partitions p
    where p.partition_id = any (ids) and p.deleted_at is null order by p.partition_id
  loop
    select t.retention_ms, t.retention_bytes into limits
    from topics t where t.topic_id = part.owner_id;
    continue when not found;
    -- A century is for ever, and fits into an interval.
    keep := least(limits.retention_ms, 3155760000000) * interval '1 millisecond';
    low := partition_low(part.partition_id);
    wanted := low;
    oldest := first_visible(part.partition_id, low);
    if oldest.appended_at < clock_timestamp() - keep then
      wanted := offset_at(part.partition_id, clock_timestamp() - keep);
    end if;
    if oldest.base_offset is not null and limits.retention_bytes is not null then
      select * into newest from segments s
      where s.partition_id = part.partition_id order by s.first_offset desc limit 1;
      byte := (segment_end(newest)).end_bytes - limits.retention_bytes;
      if oldest.end_bytes <= byte then
        wanted := greatest(wanted, offset_of_bytes(part.partition_id, byte));
      end if;
    end if;
    if wanted > low then
      insert into partition_lows (partition_id, low_offset)
      values (part.partition_id, wanted) on conflict do nothing;
      delete from partition_lows l
      where l.partition_id = part.partition_id and l.low_offset < wanted;
      moved := moved || part.partition_id;
      oldest := first_visible(part.partition_id, wanted);
    end if;
    partition_id := part.partition_id;
    low_offset := wanted;
    by_bytes := limits.retention_bytes is not null;
    -- One that was moved rests for a thousandth of its limit, a second to a minute: a busy
    -- partition would be moved with every batch.
    due_ms := greatest(
      ceil(extract(epoch from oldest.appended_at + keep - clock_timestamp()) * 1000),
      case when wanted > low then least(limits.retention_ms / 1000, 60000) else 0 end);
    if keep is null and not by_bytes then
      due_ms := 3155760000000;
    elsif keep is null or oldest.base_offset is null then
      due_ms := null;
    end if;
    purges := exists (
      select from segments s
      where s.partition_id = part.partition_id and s.first_offset < wanted
        and (s.retention_class = 5 or limits.retention_bytes is not null));
    return next;
  end loop;
  if moved <> '{}' then
    insert into wakes (slot, n, partition_ids)
    select -1, 1 + coalesce((
      select w.n from wakes w where w.slot = -1 order by w.n desc limit 1), 0), moved;
  end if;
end
$$;
