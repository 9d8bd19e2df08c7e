CREATE SCHEMA postrider;

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

CREATE FUNCTION postrider.log_incarnation() RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  system bigint := 0;
begin
  begin
    system := (select s.system_identifier from pg_control_system() s);
  exception when insufficient_privilege then
    system := 0;
  end;
  return to_hex(system) || '-' || lower(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8));
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
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

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
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

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
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, idempotency_key);

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

