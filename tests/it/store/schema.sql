CREATE SCHEMA postrider;

CREATE FUNCTION postrider.admit(ids bigint[], next_offsets bigint[], expects bigint[], owners bigint[], producers uuid[], sequences bigint[], lowest integer[], tenants bigint[], scopes text[], keys text[], hashes bytea[], layouts bytea[], firsts integer[], lasts integer[], part_ids integer[], part_shifts bigint[]) RETURNS TABLE(outcome smallint, partition_id bigint, base_offset bigint, appended_at timestamp with time zone)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  -- How many sequences of a producer are answered again; limits::PRODUCER_WINDOW.
  producer_window constant int := 64;
  marks int := coalesce(cardinality(owners), 0);
  is_refused boolean := false;
  is_told boolean;
  new_owners bigint[];
  new_producers uuid[];
  new_sequences bigint[];
  new_tenants bigint[];
  new_scopes text[];
  new_keys text[];
begin
  if marks > 0 then
    -- Waits for whoever holds the same sequence and is not committed.
    with new as (
      insert into producer_marks (owner_id, producer_id, sequence, body_hash, layout, results)
      select c.owner, c.producer, c.sequence, c.hash, c.layout,
        case when c.first = c.last
          then array[next_offsets[part_ids[c.first]] + part_shifts[c.first]]
          else array(
            select next_offsets[part_ids[part]] + part_shifts[part]
            from generate_series(c.first, c.last) part)
        end
      from unnest(owners, producers, sequences, hashes, layouts, firsts, lasts)
        c (owner, producer, sequence, hash, layout, first, last)
      where c.owner is not null
      on conflict do nothing returning owner_id, producer_id, sequence
    )
    select array_agg(new.owner_id), array_agg(new.producer_id), array_agg(new.sequence)
    into new_owners, new_producers, new_sequences from new;
    is_refused := cardinality(new_owners) is distinct from marks;
    if not is_refused then
      -- In a statement after the insert: a mark that was pruned left a newest one behind, which
      -- was committed before it went.
      perform 1 from unnest(lowest) low (n)
      where exists (
        select from producer_marks m
        where m.owner_id = owners[low.n] and m.producer_id = producers[low.n]
          and m.sequence >= sequences[low.n] + producer_window);
      is_refused := found;
    end if;
  end if;
  if tenants is not null then
    with new as (
      insert into idempotency_keys
        (tenant_id, scope, idempotency_key, body_hash, status, answer, results)
      select c.tenant, c.scope, c.key, hashes[marks + c.n], 200, layouts[marks + c.n],
        array(
          select next_offsets[part_ids[part]] + part_shifts[part]
          from generate_series(firsts[marks + c.n], lasts[marks + c.n]) part)
      from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n)
      on conflict do nothing returning tenant_id, scope, idempotency_key
    )
    select array_agg(new.tenant_id), array_agg(new.scope), array_agg(new.idempotency_key)
    into new_tenants, new_scopes, new_keys from new;
    is_refused := is_refused or cardinality(new_tenants) is distinct from cardinality(tenants);
  end if;
  -- What came before is answered as it was, whatever it expects now.
  return query
    select 5::smallint, u.id, u.next_offset, null::timestamptz
    from unnest(ids, expects, next_offsets) u (id, expected, next_offset)
    where u.expected >= 0 and u.expected <> u.next_offset;
  is_told := found;
  if not is_told and not is_refused then
    return;
  end if;
  return query
    select case when old.is_old then 7 else 6 end::smallint, null::bigint, c.n, null::timestamptz
    from unnest(owners, producers, sequences) with ordinality c (owner, producer, sequence, n)
    cross join lateral (
      select exists (
        select from producer_marks m
        where m.owner_id = c.owner and m.producer_id = c.producer
          and m.sequence >= c.sequence + producer_window) as is_old
    ) old
    where old.is_old or not exists (
      select from unnest(new_owners, new_producers, new_sequences) n (owner, producer, sequence)
      where n.owner = c.owner and n.producer = c.producer and n.sequence = c.sequence)
    union all
    select 6::smallint, null::bigint, marks + c.n, null::timestamptz
    from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n)
    where not exists (
      select from unnest(new_tenants, new_scopes, new_keys) n (tenant, scope, key)
      where n.tenant = c.tenant and n.scope = c.scope and n.key = c.key);
  -- A claim that comes twice in a flush would be taken back and its messages appended.
  if not found and not is_told then
    raise exception 'a claim comes twice in a flush' using errcode = '22000';
  end if;
  -- One at a time: a join with an empty table is planned as a scan of the whole index.
  for n in 1 .. coalesce(cardinality(new_owners), 0) loop
    delete from producer_marks m
    where m.owner_id = new_owners[n] and m.producer_id = new_producers[n]
      and m.sequence = new_sequences[n];
  end loop;
  for n in 1 .. coalesce(cardinality(new_tenants), 0) loop
    delete from idempotency_keys k
    where k.tenant_id = new_tenants[n] and k.scope = new_scopes[n]
      and k.idempotency_key = new_keys[n];
  end loop;
end
$$;

CREATE FUNCTION postrider.begin_drop(of_bucket bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
begin
  perform 1 from buckets b
  where b.bucket_id = of_bucket and b.state = 'sealed'
    and not exists (
      select from segments s
      join partitions p on p.partition_id = s.partition_id and p.deleted_at is null
      left join topics t on t.topic_id = p.owner_id
      where s.bucket_id = b.bucket_id
        and (t.retention_ms is null
          or b.sealed_at + t.retention_ms * interval '1 millisecond' > clock_timestamp()))
  for update;
  if not found then
    return false;
  end if;
  insert into partition_lows (partition_id, low_offset)
  select s.partition_id, max(s.end_offset) from segments s
  where s.bucket_id = of_bucket group by s.partition_id
  on conflict do nothing;
  -- Nodes that remember the old watermark look again. Slot 0 is maintenance's: drops come one at
  -- a time, from the node that holds the duty.
  insert into wakes (slot, n, partition_ids)
  select 0, 1 + coalesce((select max(w.n) from wakes w where w.slot = 0), 0),
    array_agg(distinct s.partition_id)
  from segments s where s.bucket_id = of_bucket having count(*) > 0;
  update buckets b set state = 'dropping' where b.bucket_id = of_bucket;
  return true;
end
$$;

CREATE FUNCTION postrider.enter_bucket(ids bigint[], this_bucket bigint, this_class smallint) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  id bigint;
  newest postrider.segments;
  e record;
begin
  foreach id in array ids loop
    select * into newest from segments s
    where s.partition_id = id order by s.first_offset desc limit 1;
    if not found then
      insert into segments
        (partition_id, first_offset, bucket_id, retention_class, first_bytes, first_at)
      values (id, 0, this_bucket, this_class, 0, clock_timestamp());
      continue;
    end if;
    if newest.bucket_id = this_bucket and newest.end_offset is null then
      continue;
    end if;
    if newest.retention_class = this_class and newest.bucket_id >= this_bucket then
      return next id;
      continue;
    end if;
    e := segment_end(newest);
    if e.end_offset = newest.first_offset then
      -- An empty segment (its append was refused later) moves, since its key would be the same.
      update segments s
      set bucket_id = this_bucket, retention_class = this_class,
        end_offset = null, end_bytes = null, end_at = null
      where s.partition_id = id and s.first_offset = newest.first_offset;
    else
      update segments s
      set end_offset = e.end_offset, end_bytes = e.end_bytes, end_at = e.end_at
      where s.partition_id = id and s.first_offset = newest.first_offset and s.end_offset is null;
      insert into segments
        (partition_id, first_offset, bucket_id, retention_class, first_bytes, first_at)
      values (id, e.end_offset, this_bucket, this_class, e.end_bytes, e.end_at);
    end if;
  end loop;
end
$$;

CREATE FUNCTION postrider.forget_bucket(of_bucket bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  here bigint[] := array(select distinct s.partition_id from segments s
    where s.bucket_id = of_bucket order by s.partition_id);
begin
  delete from partition_lows l
  where l.partition_id = any (here)
    and (exists (
        select from partition_lows higher
        where higher.partition_id = l.partition_id and higher.low_offset > l.low_offset)
      or not exists (
        select from partitions p where p.partition_id = l.partition_id and p.deleted_at is null));
  delete from segments s
  where s.partition_id = any (here)
    and (s.bucket_id = of_bucket
      or not exists (select from buckets b where b.bucket_id = s.bucket_id))
    and (exists (
        select from segments newer
        where newer.partition_id = s.partition_id and newer.first_offset > s.first_offset)
      or not exists (
        select from partitions p where p.partition_id = s.partition_id and p.deleted_at is null));
  delete from buckets b where b.bucket_id = of_bucket and b.state = 'dropping';
end
$$;

CREATE FUNCTION postrider.offset_at(of_partition bigint, at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  segment postrider.segments;
  lo bigint;
  hi bigint;
  batch record;
begin
  -- The newest segment that begins before that time; its messages may still all be older.
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_at < at
  order by s.first_offset desc limit 1;
  if not found then
    return partition_low(of_partition);
  end if;
  -- The newest segment outlives its bucket: what it held is gone.
  if to_regclass('postrider.batches_' || segment.bucket_id) is null then
    return greatest(segment.end_offset, partition_low(of_partition));
  end if;
  lo := segment.first_offset;
  hi := (segment_end(segment)).end_offset;
  while lo < hi loop
    execute format(
      'select base_offset, last_offset, appended_at from postrider.batches_%s
       where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
      segment.bucket_id)
      into batch using of_partition, (lo + hi - 1) / 2 + (lo + hi - 1) % 2;
    if batch.appended_at < at then
      lo := batch.last_offset + 1;
    else
      hi := batch.base_offset;
    end if;
  end loop;
  return greatest(lo, partition_low(of_partition));
end
$_$;

CREATE FUNCTION postrider.open_wake_slot(of_node bigint) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
  insert into wake_slots (node_id) values (of_node) returning slot
$$;

CREATE FUNCTION postrider.partition_low(of_partition bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
  select greatest(
    coalesce((select l.low_offset from partition_lows l
      where l.partition_id = of_partition order by l.low_offset desc limit 1), 0),
    coalesce((select s.first_offset from segments s
      where s.partition_id = of_partition order by s.first_offset limit 1), 0))
$$;

CREATE FUNCTION postrider.prune_marks(after_owner bigint, after_producer uuid, most integer) RETURNS TABLE(owner_id bigint, producer_id uuid)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  producer_window constant int := 64;
  newest bigint;
  made_last timestamptz;
begin
  owner_id := after_owner;
  producer_id := after_producer;
  for _ in 1 .. most loop
    select m.owner_id, m.producer_id into owner_id, producer_id from producer_marks m
    where (m.owner_id, m.producer_id) > (prune_marks.owner_id, prune_marks.producer_id)
    order by m.owner_id, m.producer_id limit 1;
    if not found then
      return;
    end if;
    select max(w.sequence), max(w.made_at) into newest, made_last from (
      select m.sequence, m.made_at from producer_marks m
      where m.owner_id = prune_marks.owner_id and m.producer_id = prune_marks.producer_id
      order by m.sequence desc limit producer_window) w;
    if made_last < clock_timestamp() - interval '24 hours' then
      delete from producer_marks m
      where m.owner_id = prune_marks.owner_id and m.producer_id = prune_marks.producer_id
        and m.made_at <= made_last;
    else
      delete from producer_marks m
      where m.owner_id = prune_marks.owner_id and m.producer_id = prune_marks.producer_id
        and m.sequence <= newest - producer_window;
    end if;
  end loop;
  return next;
end
$$;

CREATE FUNCTION postrider.roll_buckets(of_class smallint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  next_bucket bigint;
begin
  select b.bucket_id into next_bucket from buckets b
  where b.retention_class = of_class and b.state = 'ahead' and b.opens_at <= clock_timestamp()
  order by b.bucket_id desc limit 1;
  if not found then
    return false;
  end if;
  update buckets b set state = 'open' where b.bucket_id = next_bucket;
  update buckets b set state = 'closed'
  where b.retention_class = of_class and b.bucket_id < next_bucket and b.state in ('ahead', 'open');
  return true;
end
$$;

CREATE FUNCTION postrider.seal_bucket(of_bucket bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  segment postrider.segments;
  e record;
begin
  if not pg_try_advisory_xact_lock(72057594037927936 + of_bucket) then
    return false;
  end if;
  perform 1 from buckets b where b.bucket_id = of_bucket and b.state = 'closed' for update;
  if not found then
    return false;
  end if;
  for segment in
    select * from segments s where s.bucket_id = of_bucket and s.end_offset is null
    order by s.partition_id, s.first_offset
  loop
    e := segment_end(segment);
    update segments s
    set end_offset = e.end_offset, end_bytes = e.end_bytes, end_at = e.end_at
    where s.partition_id = segment.partition_id and s.first_offset = segment.first_offset
      and s.end_offset is null;
  end loop;
  update buckets b set state = 'sealed', sealed_at = clock_timestamp()
  where b.bucket_id = of_bucket;
  return true;
end
$$;

CREATE TABLE postrider.segments (
    partition_id bigint NOT NULL,
    first_offset bigint NOT NULL,
    end_offset bigint,
    bucket_id bigint NOT NULL,
    retention_class smallint NOT NULL,
    first_bytes bigint NOT NULL,
    first_at timestamp with time zone NOT NULL,
    end_bytes bigint,
    end_at timestamp with time zone
);

CREATE FUNCTION postrider.segment_end(segment postrider.segments, OUT end_offset bigint, OUT end_bytes bigint, OUT end_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $_$
begin
  if segment.end_offset is not null then
    end_offset := segment.end_offset;
    end_bytes := segment.end_bytes;
    end_at := segment.end_at;
    return;
  end if;
  execute format(
    'select last_offset + 1, end_bytes, appended_at from postrider.batches_%s
     where partition_id = $1 and base_offset >= $2 order by base_offset desc limit 1',
    segment.bucket_id)
    into end_offset, end_bytes, end_at
    using segment.partition_id, segment.first_offset;
  end_offset := coalesce(end_offset, segment.first_offset);
  end_bytes := coalesce(end_bytes, segment.first_bytes);
  end_at := coalesce(end_at, segment.first_at);
end
$_$;

CREATE FUNCTION postrider.standing_key(of_tenant bigint, of_scope text, of_key text) RETURNS TABLE(body_hash bytea, answer bytea, results bigint[], status smallint)
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
  select k.body_hash, k.answer, k.results, k.status from idempotency_keys k
  where k.tenant_id = of_tenant and k.scope = of_scope and k.idempotency_key = of_key
$$;

CREATE FUNCTION postrider.standing_mark(of_owner bigint, of_producer uuid, of_sequence bigint) RETURNS TABLE(body_hash bytea, answer bytea, results bigint[], status smallint)
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
  select m.body_hash, m.layout, m.results, 200::smallint from producer_marks m
  where m.owner_id = of_owner and m.producer_id = of_producer and m.sequence = of_sequence
$$;

CREATE FUNCTION postrider.wakes_since(own_node bigint, slots bigint[], seen bigint[]) RETURNS TABLE(slot bigint, n bigint, partition_ids bigint[])
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
  select ws.slot, max(w.n), array_agg(distinct p.id)
  from wake_slots ws
  left join unnest(slots, seen) known (slot, n) on known.slot = ws.slot
  cross join lateral (
    select w.n, w.partition_ids from wakes w
    where w.slot = ws.slot and w.n > coalesce(known.n, 0) order by w.n
  ) w
  cross join lateral unnest(w.partition_ids) p (id)
  where ws.node_id <> own_node
  group by ws.slot
$$;

CREATE FUNCTION postrider.watermarks(of_partition bigint) RETURNS TABLE(low bigint, high bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  newest postrider.segments;
begin
  perform 1 from partitions p where p.partition_id = of_partition and p.deleted_at is null;
  if not found then
    return;
  end if;
  select * into newest from segments s
  where s.partition_id = of_partition order by s.first_offset desc limit 1;
  high := 0;
  if found then
    high := (segment_end(newest)).end_offset;
  end if;
  low := partition_low(of_partition);
  return next;
end
$$;

CREATE TABLE postrider.batches (
    bucket_id bigint NOT NULL,
    partition_id bigint NOT NULL,
    base_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    end_bytes bigint NOT NULL,
    appended_at timestamp with time zone NOT NULL,
    records bytea NOT NULL
)
PARTITION BY LIST (bucket_id);

CREATE TABLE postrider.buckets (
    bucket_id bigint NOT NULL,
    retention_class smallint NOT NULL,
    state text NOT NULL,
    opens_at timestamp with time zone NOT NULL,
    closes_at timestamp with time zone NOT NULL,
    sealed_at timestamp with time zone,
    CONSTRAINT buckets_state_check CHECK ((state = ANY (ARRAY['ahead'::text, 'open'::text, 'closed'::text, 'sealed'::text, 'dropping'::text])))
);

ALTER TABLE postrider.buckets ALTER COLUMN bucket_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.buckets_bucket_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.catalog_changes (
    change_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.catalog_changes ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.catalog_changes_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.idempotency_keys (
    tenant_id bigint NOT NULL,
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    body_hash bytea NOT NULL,
    status smallint NOT NULL,
    answer bytea NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    scope text NOT NULL COLLATE pg_catalog."C",
    results bigint[]
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1', vacuum_truncate=off);

CREATE TABLE postrider.installed_functions (
    only_row boolean DEFAULT true NOT NULL,
    fingerprint text NOT NULL,
    CONSTRAINT installed_functions_only_row_check CHECK (only_row)
);

CREATE TABLE postrider.migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);

CREATE TABLE postrider.nodes (
    node_id bigint NOT NULL,
    name text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE postrider.nodes ALTER COLUMN node_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.nodes_node_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE postrider.owner_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE postrider.partition_lows (
    partition_id bigint NOT NULL,
    low_offset bigint NOT NULL
);

CREATE TABLE postrider.partitions (
    partition_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    index integer NOT NULL,
    lane smallint DEFAULT 0 NOT NULL,
    retention_class smallint NOT NULL,
    deleted_at timestamp with time zone
);

ALTER TABLE postrider.partitions ALTER COLUMN partition_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.partitions_partition_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.producer_marks (
    owner_id bigint NOT NULL,
    producer_id uuid NOT NULL,
    sequence bigint NOT NULL,
    body_hash bytea NOT NULL,
    results bigint[] NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    layout bytea NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1', vacuum_truncate=off);

CREATE TABLE postrider.retention_classes (
    retention_class smallint NOT NULL,
    longest interval,
    bucket_window interval NOT NULL,
    CONSTRAINT retention_classes_bucket_window_check CHECK ((bucket_window > '00:00:00'::interval))
);

CREATE TABLE postrider.subscriptions (
    subscription_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.subscriptions ALTER COLUMN subscription_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.subscriptions_subscription_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.tenants (
    tenant_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.tenants ALTER COLUMN tenant_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME postrider.tenants_tenant_id_seq
    START WITH 2
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.topics (
    topic_id bigint DEFAULT nextval('postrider.owner_id_seq'::regclass) NOT NULL,
    tenant_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    partition_count integer NOT NULL,
    retention_ms bigint,
    retention_bytes bigint,
    durability text NOT NULL,
    compression text NOT NULL,
    max_message_bytes integer NOT NULL,
    keyless text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT topics_compression_check CHECK ((compression = ANY (ARRAY['none'::text, 'lz4'::text, 'zstd'::text]))),
    CONSTRAINT topics_durability_check CHECK ((durability = ANY (ARRAY['local'::text, 'replicated'::text]))),
    CONSTRAINT topics_keyless_check CHECK ((keyless = ANY (ARRAY['sticky'::text, 'round_robin'::text]))),
    CONSTRAINT topics_max_message_bytes_check CHECK ((max_message_bytes > 0)),
    CONSTRAINT topics_partition_count_check CHECK ((partition_count > 0)),
    CONSTRAINT topics_retention_bytes_check CHECK ((retention_bytes > 0)),
    CONSTRAINT topics_retention_ms_check CHECK ((retention_ms > 0))
);

CREATE TABLE postrider.wake_slots (
    slot bigint NOT NULL,
    node_id bigint NOT NULL,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.wake_slots ALTER COLUMN slot ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.wake_slots_slot_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.wakes (
    slot bigint NOT NULL,
    n bigint NOT NULL,
    partition_ids bigint[] NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1', vacuum_truncate=off);

ALTER TABLE ONLY postrider.buckets
    ADD CONSTRAINT buckets_pkey PRIMARY KEY (bucket_id);

ALTER TABLE ONLY postrider.catalog_changes
    ADD CONSTRAINT catalog_changes_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY postrider.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, scope, idempotency_key);

ALTER TABLE ONLY postrider.installed_functions
    ADD CONSTRAINT installed_functions_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY postrider.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY postrider.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY postrider.partition_lows
    ADD CONSTRAINT partition_lows_pkey PRIMARY KEY (partition_id, low_offset);

ALTER TABLE ONLY postrider.partitions
    ADD CONSTRAINT partitions_owner_id_lane_index_key UNIQUE (owner_id, lane, index);

ALTER TABLE ONLY postrider.partitions
    ADD CONSTRAINT partitions_pkey PRIMARY KEY (partition_id);

ALTER TABLE ONLY postrider.producer_marks
    ADD CONSTRAINT producer_marks_pkey PRIMARY KEY (owner_id, producer_id, sequence);

ALTER TABLE ONLY postrider.retention_classes
    ADD CONSTRAINT retention_classes_pkey PRIMARY KEY (retention_class);

ALTER TABLE ONLY postrider.segments
    ADD CONSTRAINT segments_pkey PRIMARY KEY (partition_id, first_offset);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_owner_id_name_key UNIQUE (owner_id, name);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (subscription_id);

ALTER TABLE ONLY postrider.tenants
    ADD CONSTRAINT tenants_name_key UNIQUE (name);

ALTER TABLE ONLY postrider.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_pkey PRIMARY KEY (topic_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_tenant_id_name_key UNIQUE (tenant_id, name);

ALTER TABLE ONLY postrider.wake_slots
    ADD CONSTRAINT wake_slots_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY postrider.wakes
    ADD CONSTRAINT wakes_pkey PRIMARY KEY (slot, n);

CREATE INDEX buckets_retention_class_state_idx ON postrider.buckets USING btree (retention_class, state, bucket_id);

CREATE INDEX segments_bucket_id_idx ON postrider.segments USING btree (bucket_id);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

