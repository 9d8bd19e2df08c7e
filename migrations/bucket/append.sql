-- Appends one flush to bucket $bucket$: for each partition (sorted, once each) its messages as
-- one row. The text is a template: a function of its own is made for every bucket, since EXECUTE
-- would plan anew at every call. $bucket$ and $class$ are numbers.
--
-- A refusal refuses the whole flush and is told as rows, never as an exception: the node answers
-- the refused requests and sends the rest again. outcome: 0 appended, 1 this bucket is not open,
-- 2 no such partition, 3 the partition is in another class, 4 the partition is in a newer bucket,
-- 5 the expected offset is not the next one (base_offset tells which is), 6 the claim with the
-- number in base_offset stands already, 7 its sequence is too old. Claims are the marks of
-- producers and the keys of requests that are appended once; most flushes have none (admit.sql).
--
-- The order of the steps is what makes offsets dense and acknowledgements safe; each statement
-- of a volatile function sees what was committed before it began.
create or replace function postrider.append_$bucket$(
  ids bigint[], counts int[], payloads bytea[], expects bigint[], slot_id bigint, wake bigint,
  owners bigint[] default null, producers uuid[] default null, sequences bigint[] default null,
  lowest int[] default null, tenants bigint[] default null, scopes text[] default null,
  keys text[] default null, hashes bytea[] default null, layouts bytea[] default null,
  firsts int[] default null, lasts int[] default null, part_ids int[] default null,
  part_shifts bigint[] default null
) returns table (outcome smallint, partition_id bigint, base_offset bigint, appended_at timestamptz)
language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $append$
declare
  locked int;
  next_offsets bigint[];
begin
  -- 1. Under repeatable read the end of the log would be read from an old snapshot.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'append needs read committed' using errcode = '25001';
  end if;
  -- 2. While this is held the bucket cannot be sealed.
  perform pg_advisory_xact_lock_shared($lock$);
  -- 3. The append lock, which also proves that each partition exists and is in this class.
  perform 1 from partitions p
  where p.partition_id = any (ids) and p.deleted_at is null and p.retention_class = $class$
  order by p.partition_id for no key update;
  get diagnostics locked = row_count;
  if locked <> cardinality(ids) then
    return query
      select case when p.partition_id is null then 2 else 3 end::smallint, u.id,
        null::bigint, null::timestamptz
      from unnest(ids) u (id)
      left join partitions p on p.partition_id = u.id and p.deleted_at is null
      where p.partition_id is null or p.retention_class <> $class$;
    -- Whatever was wrong may have been mended since: then the bucket is to be looked up again.
    if not found then
      return query
        select 1::smallint, u.id, null::bigint, null::timestamptz from unnest(ids) u (id);
    end if;
    return;
  end if;
  -- 4. Read after the lock: only an open bucket takes appends.
  perform 1 from buckets b where b.bucket_id = $bucket$ and b.state = 'open';
  if not found then
    return query select 1::smallint, u.id, null::bigint, null::timestamptz from unnest(ids) u (id);
    return;
  end if;
  -- 5. Each partition gets its segment here.
  perform 1 from unnest(ids) u (id)
  left join lateral (
    select s.bucket_id, s.end_offset from segments s
    where s.partition_id = u.id order by s.first_offset desc limit 1
  ) newest on true
  where newest.bucket_id is distinct from $bucket$ or newest.end_offset is not null;
  if found then
    return query
      select 4::smallint, e.id, null::bigint, null::timestamptz
      from enter_bucket(ids, $bucket$, $class$::smallint) e (id);
    if found then
      return;
    end if;
  end if;
  -- 6. Where something may stand in the way: the next offsets, and the claims at them.
  if expects is not null or hashes is not null then
    select array_agg(e.next_offset order by u.n) into next_offsets
    from unnest(ids) with ordinality u (id, n)
    cross join lateral (
      select greatest(
        (select b.last_offset + 1 from batches_$bucket$ b
         where b.partition_id = u.id order by b.base_offset desc limit 1),
        (select s.first_offset from segments s
         where s.partition_id = u.id order by s.first_offset desc limit 1)) as next_offset
    ) e;
    return query
      select a.outcome, a.partition_id, a.base_offset, a.appended_at
      from admit(ids, next_offsets, expects, owners, producers, sequences, lowest, tenants, scopes,
        keys, hashes, layouts, firsts, lasts, part_ids, part_shifts) a;
    if found then
      return;
    end if;
  end if;
  -- 7. One row a partition at its next offset, and one that tells the other nodes.
  return query
    with next as (
      select u.id, u.n, u.payload,
        greatest(last.last_offset + 1, s.first_offset) as base,
        coalesce(last.end_bytes, s.first_bytes) + octet_length(u.payload) as bytes,
        greatest(clock_timestamp(), last.appended_at, s.first_at) as at
      from unnest(ids, counts, payloads) u (id, n, payload)
      cross join lateral (
        select g.first_offset, g.first_bytes, g.first_at from segments g
        where g.partition_id = u.id order by g.first_offset desc limit 1
      ) s
      left join lateral (
        select b.last_offset, b.end_bytes, b.appended_at from batches_$bucket$ b
        where b.partition_id = u.id and b.base_offset >= s.first_offset
        order by b.base_offset desc limit 1
      ) last on true
    ), told as (
      insert into wakes (slot, n, partition_ids) values (slot_id, wake, ids)
    ), appended as (
      insert into batches_$bucket$ as b
        (bucket_id, partition_id, base_offset, last_offset, end_bytes, appended_at, records)
      select $bucket$, next.id, next.base, next.base + next.n - 1, next.bytes, next.at, next.payload
      from next
      returning b.partition_id, b.base_offset, b.appended_at
    )
    select 0::smallint, appended.partition_id, appended.base_offset, appended.appended_at
    from appended;
end
$append$;
