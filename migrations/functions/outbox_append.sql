-- Appends what was made of outbox rows up to `upto` and moves the shard's cursor behind them, in
-- one transaction: each row is appended once, whoever dies in between. Entry by entry the bucket,
-- the partition, how many messages, and their batch; a partition comes once.
--
-- It takes all locks first, in the order of all writers: buckets, then partitions. Whatever is in
-- the way of an append, or a cursor that another drainer moved, undoes everything (40001): the
-- caller looks again.
create or replace function postrider.outbox_append(
  of_shard smallint, at_n bigint, upto bigint,
  bucket_ids bigint[], ids bigint[], counts int[], payloads bytea[], slot_id bigint, wake bigint
) returns void language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  bucket bigint;
  cursor_row postrider.outbox_cursors;
  flush record;
  refused bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'append needs read committed' using errcode = '25001';
  end if;
  for bucket in select distinct b from unnest(bucket_ids) b order by b loop
    perform pg_advisory_xact_lock_shared(72057594037927936 + bucket);
  end loop;
  perform 1 from partitions p
  where p.partition_id = any (ids) and p.deleted_at is null
  order by p.partition_id for no key update;
  select * into cursor_row from outbox_cursors c
  where c.shard = of_shard order by c.n desc limit 1;
  if cursor_row.n is distinct from at_n or cursor_row.until is null then
    raise exception 'the cursor of shard % has moved', of_shard using errcode = '40001';
  end if;
  for flush in
    select u.b as bucket, array_agg(u.id order by u.id) as ids,
      array_agg(u.n order by u.id) as counts, array_agg(u.payload order by u.id) as payloads
    from unnest(bucket_ids, ids, counts, payloads) u (b, id, n, payload)
    group by u.b order by u.b
  loop
    execute format('select count(*) from postrider.append_%s($1, $2, $3, null, $4, $5) a
      where a.outcome <> 0', flush.bucket)
      into refused using flush.ids, flush.counts, flush.payloads, slot_id, wake;
    if refused > 0 then
      raise exception 'an append to bucket % was refused', flush.bucket using errcode = '40001';
    end if;
    wake := wake + 1;
  end loop;
  if upto >= cursor_row.last_id then
    insert into outbox_cursors (shard, n, seen, until, after_id, last_id)
    values (of_shard, at_n + 1, cursor_row.until, null, 0, 0);
  else
    insert into outbox_cursors (shard, n, seen, until, after_id, last_id)
    values (of_shard, at_n + 1, cursor_row.seen, cursor_row.until, upto, cursor_row.last_id);
  end if;
  delete from outbox_cursors c where c.shard = of_shard and c.n <= at_n;
end
$$;
revoke all on function postrider.outbox_append from public;
