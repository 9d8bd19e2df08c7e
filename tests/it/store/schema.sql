CREATE SCHEMA postrider;

CREATE FUNCTION postrider.admit(ids bigint[], next_offsets bigint[], expects bigint[], owners bigint[], producers uuid[], sequences bigint[], lowest integer[], tenants bigint[], scopes text[], keys text[], hashes bytea[], layouts bytea[], firsts integer[], lasts integer[], part_ids integer[], part_shifts bigint[]) RETURNS TABLE(outcome smallint, partition_id bigint, base_offset bigint, appended_at timestamp with time zone)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  -- How many sequences of a producer are answered again; limits::PRODUCER_WINDOW.
  producer_window constant int := 64;
  marks int := coalesce(cardinality(owners), 0);
  is_met boolean;
begin
  for _ in 1 .. 3 loop
    -- A refusal undoes the inserts with the block. They are plain ones: "on conflict" probes the
    -- key first and writes a record to the WAL for each row, which is more than the block costs,
    -- a transaction id of its own for each flush with claims.
    begin
      is_met := false;
      -- Waits for whoever holds the same sequence and is not committed.
      if marks > 0 then
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
        where c.owner is not null;
      end if;
      if tenants is not null then
        insert into idempotency_keys
          (tenant_id, scope, idempotency_key, body_hash, status, answer, results)
        select c.tenant, c.scope, c.key, hashes[marks + c.n], 200, layouts[marks + c.n],
          array(
            select next_offsets[part_ids[part]] + part_shifts[part]
            from generate_series(firsts[marks + c.n], lasts[marks + c.n]) part)
        from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n);
      end if;
      -- In a statement after the insert: a mark that was pruned left a newest one behind, which
      -- was committed before it went.
      if marks > 0 then
        perform 1 from unnest(lowest) low (n)
        where exists (
          select from producer_marks m
          where m.owner_id = owners[low.n] and m.producer_id = producers[low.n]
            and m.sequence >= sequences[low.n] + producer_window);
        if found then
          raise sqlstate 'PR001';
        end if;
      end if;
      if expects is not null then
        perform 1 from unnest(expects, next_offsets) u (expected, next_offset)
        where u.expected >= 0 and u.expected <> u.next_offset;
        if found then
          raise sqlstate 'PR001';
        end if;
      end if;
      return;
    exception
      when unique_violation then is_met := true;
      when sqlstate 'PR001' then null;
    end;
    -- "limit 1" keeps each look one by key: a join with an empty table is planned as a scan.
    return query
      select case when sought.is_old then 7 else 6 end::smallint, null::bigint, c.n,
        null::timestamptz
      from unnest(owners, producers, sequences) with ordinality c (owner, producer, sequence, n)
      cross join lateral (
        select true as is_old from producer_marks m
        where m.owner_id = c.owner and m.producer_id = c.producer
          and m.sequence >= c.sequence + producer_window
        union all
        select false from producer_marks m
        where m.owner_id = c.owner and m.producer_id = c.producer and m.sequence = c.sequence
        limit 1
      ) sought
      union all
      select 6::smallint, null::bigint, marks + c.n, null::timestamptz
      from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n)
      cross join lateral (
        select from idempotency_keys k
        where k.tenant_id = c.tenant and k.scope = c.scope and k.idempotency_key = c.key
        limit 1
      ) sought;
    -- What came before is answered as it was, whatever it expects; and the insert ended at the
    -- first that was met, so of the others' offsets nothing is said yet.
    if found then
      return;
    end if;
    if not is_met then
      return query
        select 5::smallint, u.id, u.next_offset, null::timestamptz
        from unnest(ids, expects, next_offsets) u (id, expected, next_offset)
        where u.expected >= 0 and u.expected <> u.next_offset;
      if found then
        return;
      end if;
    end if;
    -- What was in the way was pruned meanwhile.
  end loop;
  -- Most likely it comes twice in this flush, where it would be met each time.
  raise exception 'a claim is in the way and cannot be found' using errcode = '22000';
end
$$;

CREATE FUNCTION postrider.as_text(bytes bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
  return convert_from(bytes, 'UTF8');
exception when character_not_in_repertoire or untranslatable_character then
  return null;
end
$$;

CREATE FUNCTION postrider.begin_drop(of_bucket bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
begin
  -- Shared with the catalog: a longer limit that was acknowledged counts.
  perform pg_advisory_xact_lock_shared(216172782113783808);
  perform 1 from buckets b
  where b.bucket_id = of_bucket and b.state = 'sealed'
    and not exists (
      select from segments s
      join partitions p on p.partition_id = s.partition_id and p.deleted_at is null
      left join topics t on t.topic_id = p.owner_id
      where s.bucket_id = b.bucket_id
        and (t.retention_ms is null
          or b.sealed_at + least(t.retention_ms, 3155760000000) * interval '1 millisecond'
            > clock_timestamp()))
  for update;
  if not found then
    return false;
  end if;
  insert into partition_lows (partition_id, low_offset)
  select s.partition_id, max(s.end_offset) from segments s
  where s.bucket_id = of_bucket group by s.partition_id
  order by s.partition_id
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

CREATE FUNCTION postrider.first_visible(of_partition bigint, low bigint, OUT base_offset bigint, OUT appended_at timestamp with time zone, OUT end_bytes bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  segment postrider.segments;
begin
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_offset <= low
  order by s.first_offset desc limit 1;
  while found loop
    -- The newest segment outlives its bucket: what it held is gone.
    if coalesce(segment.end_offset > low, true)
      and to_regclass('postrider.batches_' || segment.bucket_id) is not null
    then
      execute format(
        'select base_offset, appended_at, end_bytes from postrider.batches_%s
         where partition_id = $1 and base_offset >= $2 and base_offset < $3
         order by base_offset limit 1', segment.bucket_id)
        into base_offset, appended_at, end_bytes
        using of_partition, greatest(low, segment.first_offset),
          coalesce(segment.end_offset, 9223372036854775807);
      if base_offset is not null then
        return;
      end if;
    end if;
    select * into segment from segments s
    where s.partition_id = of_partition and s.first_offset > segment.first_offset
    order by s.first_offset limit 1;
  end loop;
end
$_$;

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

CREATE FUNCTION postrider.forget_deleted(after_id bigint, max_partitions integer, max_rows integer, OUT last_id bigint, OUT removed bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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

CREATE FUNCTION postrider.group_apply(of_group bigint, ids bigint[], topics text[], indexes integer[], targets text[], at_once boolean[], seen_change bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  g postrider.groups;
  new_epoch bigint;
  changed bigint;
  gone bigint;
  this_log text := log_incarnation();
  -- An index on the deadline is no use while the clock is a function call.
  at timestamptz := clock_timestamp();
begin
  select * into g from groups gr where gr.group_id = of_group;
  new_epoch := greatest(g.last_epoch + 1, (extract(epoch from at) * 1000)::bigint);
  with gone as (
    delete from assignments a
    where a.group_id = of_group and not exists (
      select from partitions p where p.partition_id = a.partition_id and p.deleted_at is null)
    returning a.partition_id
  ), forgotten as (
    delete from group_offsets o using gone
    where o.partition_id = gone.partition_id and o.group_id = of_group
  )
  select count(*) from gone into gone;
  with wanted as (
    select u.id, u.topic, u.index, u.target, u.now,
      s.revoke_deadline is null or s.target_id is distinct from u.target as is_news
    from unnest(ids, topics, indexes, targets, at_once) u (id, topic, index, target, now)
    join partitions p on p.partition_id = u.id and p.deleted_at is null
    left join assignments s on s.group_id = of_group and s.partition_id = u.id
  ), told as (
    -- What goes on with a living owner: told to give up, told of another successor, or as it is.
    update assignments a set target_id = w.target,
      revoke_deadline = coalesce(a.revoke_deadline, at + interval '5 seconds')
    from wanted w
    where a.group_id = of_group and a.partition_id = w.id
      and not w.now and a.member_id is distinct from w.target
      and (a.revoke_deadline is null or a.revoke_deadline > at)
      and exists (
        select from group_members m where m.group_id = of_group and m.member_id = a.member_id)
    returning a.partition_id, w.is_news
  ), moved as (
    update assignments a set member_id = w.target, target_id = w.target, revoke_deadline = null,
      epoch = new_epoch, log_incarnation = this_log
    from wanted w
    where a.group_id = of_group and a.partition_id = w.id
      and not exists (select from told t where t.partition_id = w.id)
      and (w.now or a.revoke_deadline is not null or a.member_id is distinct from w.target
        or a.target_id is distinct from w.target)
    returning a.partition_id
  ), made as (
    insert into assignments as a (group_id, partition_id, tenant_id, topic, index, member_id,
      target_id, epoch, log_incarnation)
    select of_group, w.id, g.tenant_id, w.topic, w.index, w.target, w.target, new_epoch, this_log
    from wanted w
    where not exists (
      select from assignments s where s.group_id = of_group and s.partition_id = w.id)
    returning a.partition_id
  ), begun as (
    insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
    select m.partition_id, of_group, new_epoch, group_committed(m.partition_id, of_group),
      g.tenant_id
    from moved m
    union all
    select m.partition_id, of_group, new_epoch,
      case when m.partition_id > g.start_upto then 0
        when g.start = 'latest' then w.high else w.low end, g.tenant_id
    from made m cross join lateral watermarks(m.partition_id) w
  )
  select (select count(*) from told t where t.is_news) + (select count(*) from moved)
    + (select count(*) from made) into changed;
  -- Nodes are told only of what is news. Topics mean nothing to a group without members.
  update groups gr set catalog_seen = case
      when exists (select from group_members m where m.group_id = of_group) then seen_change
      else 9223372036854775807 end,
    last_epoch = case when changed > 0 then new_epoch else gr.last_epoch end,
    version = gr.version + (changed + gone > 0)::int
  where gr.group_id = of_group;
end
$$;

CREATE FUNCTION postrider.group_beat(numbers bigint[], ages_ms bigint[]) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  at timestamptz := clock_timestamp();
begin
  perform set_config('synchronous_commit', 'off', true);
  with heard as (
    select h.member_number, u.age from unnest(numbers, ages_ms) u (number, age)
    join member_heartbeats h on h.member_number = u.number
    order by h.member_number for update of h skip locked
  )
  update member_heartbeats h
  set seen_at = greatest(h.seen_at, at - heard.age * interval '1 millisecond')
  from heard where h.member_number = heard.member_number;
  return query select u.number from unnest(numbers) u (number)
    left join member_heartbeats h on h.member_number = u.number
    where h.member_number is null;
end
$$;

CREATE FUNCTION postrider.group_check(of_group bigint, of_member text) RETURNS TABLE(partition_id bigint, topic text, index integer, epoch bigint, revoke_ms bigint, committed bigint, is_current boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  this_log text := log_incarnation();
  at timestamptz := clock_timestamp();
begin
  return query
    select null::bigint, g.name, null::int, m.generation, null::bigint, g.version, g.is_paused
    from groups g
    left join group_members m on m.group_id = g.group_id and m.member_id = of_member
    where g.group_id = of_group and g.deleted_at is null;
  return query
    select a.partition_id, a.topic, a.index, a.epoch,
      case when a.revoke_deadline is not null then
        greatest(0, extract(epoch from a.revoke_deadline - at) * 1000)::bigint end,
      group_committed(a.partition_id, of_group), a.log_incarnation = this_log
    from assignments a
    where a.group_id = of_group and a.member_id = of_member
    order by a.topic, a.index;
end
$$;

CREATE FUNCTION postrider.group_commit(of_group bigint, ids bigint[], epochs bigint[], nexts bigint[], vouched boolean[]) RETURNS TABLE(outcome smallint, high bigint)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  this_log text;
  standing postrider.assignments;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a commit of offsets needs read committed' using errcode = '25001';
  end if;
  perform pg_advisory_xact_lock_shared(360287970189639680 + of_group);
  this_log := log_incarnation();
  for i in 1 .. cardinality(ids) loop
    outcome := 0;
    high := null;
    perform 1 from group_offsets o
    where o.partition_id = ids[i] and o.group_id = of_group and o.epoch = epochs[i]
      and o.next_offset >= nexts[i]
    limit 1;
    if not found then
      select * into standing from assignments a
      where a.group_id = of_group and a.partition_id = ids[i];
      if standing.epoch is distinct from epochs[i] or standing.member_id is null then
        outcome := 1;
      elsif standing.log_incarnation <> this_log then
        outcome := 3;
      else
        if not vouched[i] then
          select w.high into high from watermarks(ids[i]) w;
        end if;
        if nexts[i] > high or (high is null and not vouched[i]) then
          outcome := 2;
        else
          insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
          values (ids[i], of_group, epochs[i], nexts[i], standing.tenant_id)
          on conflict do nothing;
        end if;
      end if;
    end if;
    return next;
  end loop;
end
$$;

CREATE FUNCTION postrider.group_committed(of_partition bigint, of_group bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
  select o.next_offset from group_offsets o
  where o.partition_id = of_partition and o.group_id = of_group
  order by o.epoch desc, o.next_offset desc limit 1
$$;

CREATE FUNCTION postrider.group_confirm(of_group bigint, of_member text, of_generation bigint, ids bigint[], epochs bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  moved bigint;
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  perform 1 from group_members m
  where m.group_id = of_group and m.member_id = of_member and m.generation = of_generation;
  if not found then
    return 0;
  end if;
  perform 1 from unnest(ids, epochs) u (id, epoch)
  join assignments a on a.group_id = of_group and a.partition_id = u.id and a.epoch = u.epoch
    and a.member_id = of_member and a.revoke_deadline is not null;
  if not found then
    return 0;
  end if;
  new_epoch := group_next_epoch(of_group);
  with given as (
    update assignments a set member_id = a.target_id, revoke_deadline = null, epoch = new_epoch,
      log_incarnation = this_log
    from unnest(ids, epochs) u (id, epoch)
    where a.group_id = of_group and a.partition_id = u.id and a.epoch = u.epoch
      and a.member_id = of_member and a.revoke_deadline is not null
    returning a.partition_id, a.tenant_id
  )
  insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
  select given.partition_id, of_group, new_epoch,
    group_committed(given.partition_id, of_group), given.tenant_id
  from given;
  get diagnostics moved = row_count;
  return moved;
end
$$;

CREATE FUNCTION postrider.group_delete(of_group bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
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

CREATE FUNCTION postrider.group_drop_partitions(ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  touched bigint[] := array(
    select distinct a.group_id from assignments a
    where a.partition_id = any (ids) order by a.group_id);
  one bigint;
begin
  foreach one in array touched loop
    perform pg_advisory_xact_lock(360287970189639680 + one);
  end loop;
  delete from group_offsets o
  where o.partition_id = any (ids) and o.group_id = any (touched);
  delete from assignments a where a.partition_id = any (ids) and a.group_id = any (touched);
  foreach one in array touched loop
    perform group_next_epoch(one);
  end loop;
end
$$;

CREATE FUNCTION postrider.group_expire(of_group bigint, alive_ms bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  gone bigint;
  at timestamptz := clock_timestamp();
begin
  with silent as (
    delete from member_heartbeats h
    where h.group_id = of_group
      and h.seen_at < clock_timestamp() - h.session_timeout_ms * interval '1 millisecond'
      and (h.session_timeout_ms <= alive_ms or alive_ms >= 5000)
    returning h.member_number
  )
  delete from group_members m using silent where m.member_number = silent.member_number;
  get diagnostics gone = row_count;
  update groups g set version = g.version + 1 where gone > 0 and g.group_id = of_group;
  return gone > 0
    or exists (select from assignments a where a.group_id = of_group and (a.revoke_deadline < at
      or (a.member_id is distinct from a.target_id and a.revoke_deadline is null)))
    or exists (select from groups g where g.group_id = of_group and g.deleted_at is null
      and g.catalog_seen < (select max(c.change_id) from catalog_changes c));
end
$$;

CREATE FUNCTION postrider.group_join(of_group bigint, of_member text, wanted bigint, wanted_patterns text[], timeout_ms bigint, first_start text, OUT outcome smallint, OUT generation bigint, OUT member_number bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  standing postrider.group_members;
begin
  update groups g set deleted_at = null, created_at = clock_timestamp(), is_paused = false,
    start = first_start, catalog_seen = 0, start_upto = coalesce(
      (select p.partition_id from partitions p order by p.partition_id desc limit 1), 0)
  where g.group_id = of_group and g.deleted_at is not null;
  select * into standing from group_members m
  where m.group_id = of_group and m.member_id = of_member;
  outcome := case when found then 2 else 0 end;
  if found and wanted <= standing.generation then
    outcome := case when wanted < standing.generation then 3
      when standing.patterns = wanted_patterns and standing.session_timeout_ms = timeout_ms then 1
      else 4 end;
    generation := standing.generation;
    member_number := standing.member_number;
    return;
  end if;
  -- Without a number the clock's: one that left or was silent had a lower one.
  generation := coalesce(wanted, standing.generation + 1,
    (extract(epoch from clock_timestamp()) * 1000)::bigint);
  delete from member_heartbeats h where h.member_number = standing.member_number;
  delete from group_members m where m.group_id = of_group and m.member_id = of_member;
  insert into group_members as m
    (group_id, member_id, tenant_id, generation, patterns, session_timeout_ms)
  select of_group, of_member, g.tenant_id, group_join.generation, wanted_patterns, timeout_ms
  from groups g where g.group_id = of_group
  returning m.member_number into group_join.member_number;
  update groups g set version = g.version + 1 where g.group_id = of_group;
  insert into member_heartbeats (member_number, tenant_id, group_id, session_timeout_ms, seen_at)
  select group_join.member_number, g.tenant_id, of_group, timeout_ms, clock_timestamp()
  from groups g where g.group_id = of_group;
end
$$;

CREATE FUNCTION postrider.group_lag(of_group bigint) RETURNS TABLE(partition_id bigint, topic text, index integer, member_id text, epoch bigint, is_revoked boolean, committed bigint, low bigint, high bigint, lag_ms bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  segment postrider.segments;
  first_at timestamptz;
begin
  for partition_id, topic, index, member_id, epoch, is_revoked, committed, low, high in
    select a.partition_id, a.topic, a.index, a.member_id, a.epoch, a.revoke_deadline is not null,
      group_committed(a.partition_id, of_group), w.low, w.high
    from assignments a cross join lateral watermarks(a.partition_id) w
    where a.group_id = of_group order by a.topic, a.index
  loop
    lag_ms := null;
    if greatest(committed, low) < high then
      first_at := null;
      select * into segment from segments s
      where s.partition_id = group_lag.partition_id
        and s.first_offset <= greatest(group_lag.committed, group_lag.low)
      order by s.first_offset desc limit 1;
      if found and to_regclass('postrider.batches_' || segment.bucket_id) is not null then
        execute format(
          'select appended_at from postrider.batches_%s
           where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
          segment.bucket_id)
          into first_at using group_lag.partition_id, greatest(committed, low);
      end if;
      lag_ms := greatest(0, extract(epoch from clock_timestamp() - first_at) * 1000)::bigint;
    end if;
    return next;
  end loop;
end
$_$;

CREATE FUNCTION postrider.group_leave(of_group bigint, of_member text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
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

CREATE FUNCTION postrider.group_next_epoch(of_group bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  next_epoch bigint;
begin
  update groups g set
    last_epoch = greatest(g.last_epoch + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
    version = g.version + 1
  where g.group_id = of_group
  returning g.last_epoch into next_epoch;
  return next_epoch;
end
$$;

CREATE FUNCTION postrider.group_open(of_tenant bigint, of_name text, first_start text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  found_group bigint;
begin
  select g.group_id into found_group from groups g
  where g.tenant_id = of_tenant and g.name = of_name;
  if found then
    return found_group;
  end if;
  insert into groups (tenant_id, name, start, start_upto)
  values (of_tenant, of_name, first_start, coalesce(
    (select p.partition_id from partitions p order by p.partition_id desc limit 1), 0))
  on conflict on constraint groups_tenant_id_name_key do nothing
  returning group_id into found_group;
  if found_group is null then
    select g.group_id into found_group from groups g
    where g.tenant_id = of_tenant and g.name = of_name;
  end if;
  return found_group;
end
$$;

CREATE FUNCTION postrider.group_prune(ids bigint[], group_ids bigint[], epochs bigint[], nexts bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  gone bigint;
begin
  delete from group_offsets o
  using unnest(ids, group_ids, epochs, nexts) u (id, group_id, epoch, next_offset)
  where o.partition_id = u.id and o.group_id = u.group_id
    and (o.epoch, o.next_offset) < (u.epoch, u.next_offset);
  get diagnostics gone = row_count;
  return gone;
end
$$;

CREATE FUNCTION postrider.group_renew(of_group bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
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

CREATE FUNCTION postrider.group_seek(of_group bigint, ids bigint[], nexts bigint[]) RETURNS TABLE(partition_id bigint, epoch bigint)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  new_epoch := group_next_epoch(of_group);
  return query
    with moved as (
      update assignments a set epoch = new_epoch, log_incarnation = this_log
      from unnest(ids, nexts) u (id, next_offset)
      where a.group_id = of_group and a.partition_id = u.id
      returning a.partition_id, a.tenant_id, u.next_offset
    ), begun as (
      insert into group_offsets as o (partition_id, group_id, epoch, next_offset, tenant_id)
      select moved.partition_id, of_group, new_epoch, moved.next_offset, moved.tenant_id
      from moved returning o.partition_id
    )
    select begun.partition_id, new_epoch from begun;
end
$$;

CREATE FUNCTION postrider.group_set_paused(of_group bigint, paused boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  update groups g set is_paused = paused, version = g.version + 1
  where g.group_id = of_group and g.deleted_at is null;
  return found;
end
$$;

CREATE FUNCTION postrider.group_versions(ids bigint[], versions bigint[]) RETURNS TABLE(group_id bigint, log_incarnation text)
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
  select u.id, null::text
  from unnest(ids, versions) u (id, version)
  left join groups g on g.group_id = u.id and g.deleted_at is null
  where g.version is distinct from u.version
  union all
  select null::bigint, log_incarnation()
$$;

CREATE FUNCTION postrider.group_view(of_group bigint) RETURNS TABLE(member_id text, number bigint, partition_id bigint, topic text, index integer, epoch bigint, ms bigint, is_paused boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  at timestamptz := clock_timestamp();
begin
  return query
    select null::text, null::bigint, null::bigint, null::text, null::int, g.version, null::bigint,
      g.is_paused
    from groups g where g.group_id = of_group and g.deleted_at is null;
  if not found then
    return;
  end if;
  return query
    select m.member_id, m.member_number, null::bigint, null::text, null::int, m.generation,
      m.session_timeout_ms, null::boolean
    from group_members m where m.group_id = of_group;
  return query
    select a.member_id, null::bigint, a.partition_id, a.topic, a.index, a.epoch,
      case when a.revoke_deadline is not null then
        greatest(0, extract(epoch from a.revoke_deadline - at) * 1000)::bigint end,
      null::boolean
    from assignments a where a.group_id = of_group and a.member_id is not null
    order by a.topic, a.index;
end
$$;

CREATE FUNCTION postrider.groups_due(alive_ms bigint) RETURNS TABLE(group_id bigint, next_ms bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  at timestamptz := clock_timestamp();
  newest bigint := coalesce(
    (select c.change_id from catalog_changes c order by c.change_id desc limit 1), 0);
  first_silent timestamptz;
  first_deadline timestamptz;
begin
  select min(h.seen_at + h.session_timeout_ms * interval '1 millisecond') into first_silent
  from member_heartbeats h
  where h.session_timeout_ms <= alive_ms or alive_ms >= 5000;
  select min(a.revoke_deadline) into first_deadline from assignments a
  where a.revoke_deadline is not null;
  if first_silent < at then
    return query select distinct h.group_id, null::bigint from member_heartbeats h
      where h.seen_at < at - h.session_timeout_ms * interval '1 millisecond'
        and (h.session_timeout_ms <= alive_ms or alive_ms >= 5000);
  end if;
  if first_deadline < at then
    return query select distinct a.group_id, null::bigint from assignments a
      where a.revoke_deadline < at;
  end if;
  return query select distinct a.group_id, null::bigint from assignments a
    where a.member_id is distinct from a.target_id and a.revoke_deadline is null;
  return query select g.group_id, null::bigint from groups g
    where g.catalog_seen < newest and g.deleted_at is null;
  first_silent := least(first_silent, first_deadline);
  -- greatest passes over what is null: where nobody knows of any it would say 0, at once.
  return query select null::bigint, case when first_silent is not null
    then greatest(0, extract(epoch from first_silent - at) * 1000)::bigint end;
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

CREATE FUNCTION postrider.unpack(records bytea) RETURNS TABLE(nth integer, compression text, kind text, key_bytes bytea, value_bytes bytea, headers jsonb)
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  -- Out of its compressed form once, not at every byte.
  data bytea := records || ''::bytea;
  batch int := 0;
  batch_end int;
  at int;
  number bigint;
  attributes int;
  header_count int;
  name text;
  content bytea;
begin
  nth := 0;
  while batch < octet_length(data) loop
    batch_end := batch + 12 + ('x' || encode(substr(data, batch + 9, 4), 'hex'))::bit(32)::int;
    compression := (array['none', 'gzip', 'snappy', 'lz4', 'zstd'])
      [1 + (get_byte(data, batch + 22) & 7)];
    at := batch + 61;
    for i in 1..('x' || encode(substr(data, batch + 58, 4), 'hex'))::bit(32)::int loop
      kind := null;
      key_bytes := null;
      value_bytes := null;
      headers := null;
      if compression = 'none' then
        select v.at into at from unpack_varint(data, at) v;
        attributes := get_byte(data, at);
        select v.at into at from unpack_varint(data, at + 1) v;
        select v.at into at from unpack_varint(data, at) v;
        select v.at, v.number into at, number from unpack_varint(data, at) v;
        if number >= 0 then
          key_bytes := substr(data, at + 1, number::int);
          at := at + number::int;
        end if;
        select v.at, v.number into at, number from unpack_varint(data, at) v;
        if number >= 0 then
          value_bytes := substr(data, at + 1, number::int);
          at := at + number::int;
        end if;
        kind := case when value_bytes is null then 'tombstone'
          else (array['unknown', 'json', 'text', 'bytes'])[1 + (attributes & 3)] end;
        select v.at, v.number into at, header_count from unpack_varint(data, at) v;
        for h in 1..header_count loop
          select v.at, v.number into at, number from unpack_varint(data, at) v;
          name := convert_from(substr(data, at + 1, number::int), 'UTF8');
          select v.at, v.number into at, number from unpack_varint(data, at + number::int) v;
          content := substr(data, at + 1, greatest(number, 0)::int);
          at := at + greatest(number, 0)::int;
          -- A name may come more than once: its values in their order.
          headers := coalesce(headers, '{}') || jsonb_build_object(name,
            coalesce(headers -> name, '[]') || jsonb_build_array(
              coalesce(as_text(content), 'base64:' || encode(content, 'base64'))));
        end loop;
      end if;
      return next;
      nth := nth + 1;
    end loop;
    batch := batch_end;
  end loop;
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

CREATE SEQUENCE postrider.owner_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE postrider.partitions (
    partition_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    index integer NOT NULL,
    lane smallint DEFAULT 0 NOT NULL,
    retention_class smallint NOT NULL,
    deleted_at timestamp with time zone
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

CREATE VIEW postrider.messages AS
 SELECT t.name AS topic,
    p.index AS partition,
    (b.base_offset + m.nth) AS "offset",
    b.appended_at AS "timestamp",
    m.kind,
    postrider.as_text(m.key_bytes) AS key,
        CASE
            WHEN (m.kind = ANY (ARRAY['json'::text, 'text'::text, 'unknown'::text])) THEN postrider.as_text(m.value_bytes)
            ELSE NULL::text
        END AS value,
    m.headers,
    m.key_bytes,
    m.value_bytes,
    m.compression
   FROM ((((postrider.topics t
     JOIN postrider.partitions p ON (((p.owner_id = t.topic_id) AND (p.deleted_at IS NULL))))
     CROSS JOIN LATERAL ( SELECT postrider.partition_low(p.partition_id) AS low
         OFFSET 0) l)
     JOIN postrider.batches b ON (((b.partition_id = p.partition_id) AND (b.last_offset >= l.low))))
     CROSS JOIN LATERAL postrider.unpack(b.records) m(nth, compression, kind, key_bytes, value_bytes, headers))
  WHERE ((b.base_offset + m.nth) >= l.low);

CREATE FUNCTION postrider.messages(topic text, partition integer, from_offset bigint DEFAULT 0, max_messages integer DEFAULT 100) RETURNS SETOF postrider.messages
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  part record;
  base bigint;
begin
  select p.partition_id, partition_low(p.partition_id) as low into part
  from topics t join partitions p on p.owner_id = t.topic_id and p.deleted_at is null
  where t.tenant_id = 1 and t.name = messages.topic and p.index = messages.partition;
  from_offset := greatest(from_offset, part.low);
  select b.base_offset into base from batches b
  where b.partition_id = part.partition_id and b.base_offset <= from_offset
  order by b.base_offset desc limit 1;
  return query
    select messages.topic, messages.partition, b.base_offset + m.nth, b.appended_at, m.kind,
      as_text(m.key_bytes),
      case when m.kind in ('json', 'text', 'unknown') then as_text(m.value_bytes) end,
      m.headers, m.key_bytes, m.value_bytes, m.compression
    from (
      select * from batches b
      where b.partition_id = part.partition_id and b.base_offset >= coalesce(base, from_offset)
      order by b.base_offset limit max_messages
    ) b cross join lateral unpack(b.records) m
    where b.base_offset + m.nth >= from_offset
    order by 3 limit max_messages;
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
  low bigint := partition_low(of_partition);
  segment postrider.segments;
  lo bigint;
  hi bigint;
  mid bigint;
  batch record;
begin
  -- The newest segment that begins before that time; its messages may still all be older.
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_at < at
  order by s.first_offset desc limit 1;
  if not found then
    return low;
  end if;
  -- The newest segment outlives its bucket: what it held is gone.
  if to_regclass('postrider.batches_' || segment.bucket_id) is null then
    return greatest(segment.end_offset, low);
  end if;
  -- Below the low watermark rows may be gone.
  lo := greatest(segment.first_offset, low);
  hi := (segment_end(segment)).end_offset;
  while lo < hi loop
    mid := lo + (hi - lo) / 2;
    execute format(
      'select base_offset, last_offset, appended_at from postrider.batches_%s
       where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
      segment.bucket_id)
      into batch using of_partition, mid;
    if batch.appended_at >= at then
      hi := batch.base_offset;
    else
      -- Further than mid whatever was found: this ends.
      lo := greatest(mid, batch.last_offset) + 1;
    end if;
  end loop;
  return greatest(lo, low);
end
$_$;

CREATE FUNCTION postrider.offset_of_bytes(of_partition bigint, byte bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  low bigint := partition_low(of_partition);
  segment postrider.segments;
  lo bigint;
  hi bigint;
  mid bigint;
  batch record;
begin
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_bytes <= byte
  order by s.first_offset desc limit 1;
  if not found then
    return low;
  end if;
  if to_regclass('postrider.batches_' || segment.bucket_id) is null then
    return greatest(segment.end_offset, low);
  end if;
  lo := greatest(segment.first_offset, low);
  hi := (segment_end(segment)).end_offset;
  while lo < hi loop
    mid := lo + (hi - lo) / 2;
    execute format(
      'select base_offset, last_offset, end_bytes from postrider.batches_%s
       where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
      segment.bucket_id)
      into batch using of_partition, mid;
    if batch.end_bytes > byte then
      hi := batch.base_offset;
    else
      -- Further than mid whatever was found: this ends.
      lo := greatest(mid, batch.last_offset) + 1;
    end if;
  end loop;
  return greatest(lo, low);
end
$_$;

CREATE FUNCTION postrider.open_wake_slot(of_node bigint) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
  insert into wake_slots (node_id) values (of_node) returning slot
$$;

CREATE FUNCTION postrider.outbox_add(destination text, kind smallint, value bytea, key text, headers jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  topic record;
  key_bytes bytea := convert_to(key, 'UTF8');
  names text[];
  contents bytea[];
  header_bytes bigint := 0;
begin
  if destination like 'queue:%' then
    raise exception 'publishing to queues is not supported yet: "%"', destination
      using errcode = '0A000';
  end if;
  select t.topic_id, t.max_message_bytes, (t.durability = 'replicated')::int as shard
  into topic from topics t
  where t.tenant_id = 1
    and t.name = case when destination like 'topic:%' then substr(destination, 7)
      else destination end;
  if not found then
    raise exception 'there is no topic "%"', destination using errcode = '42704',
      hint = 'Make it first: PUT /v1/topics/{topic}, or postrider topic create.';
  end if;
  if headers is not null then
    select h.names, h.contents into names, contents from outbox_headers(headers) h;
    select coalesce(sum(octet_length(n) + octet_length(c)), 0) into header_bytes
    from unnest(names, contents) h (n, c);
  end if;
  if octet_length(key_bytes) > 1024 then
    raise exception 'a key has at most 1024 bytes' using errcode = '54000';
  elsif header_bytes > 65536 then
    raise exception 'the headers of a message have at most 65536 bytes' using errcode = '54000';
  elsif coalesce(octet_length(key_bytes), 0) + coalesce(octet_length(value), 0) + header_bytes
    > topic.max_message_bytes
  then
    raise exception 'a message of the topic "%" has at most % bytes', destination,
      topic.max_message_bytes using errcode = '54000';
  end if;
  insert into outbox (place, topic_id, kind, key, value, header_names, header_values)
  values (topic.shard * 3
      + mod((extract(epoch from transaction_timestamp()) / 60)::bigint, 3),
    topic.topic_id, outbox_add.kind, key_bytes, outbox_add.value, names, contents);
end
$$;

CREATE FUNCTION postrider.outbox_append(of_shard smallint, at_n bigint, upto bigint, bucket_ids bigint[], ids bigint[], counts integer[], payloads bytea[], slot_id bigint, wake bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
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
$_$;

CREATE FUNCTION postrider.outbox_empty(of_shard smallint) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  covered pg_snapshot;
  now_turn int := mod((extract(epoch from transaction_timestamp()) / 60)::bigint, 3);
  place int;
  has_rows boolean;
  emptied int := 0;
begin
  select c.seen into covered from outbox_cursors c
  where c.shard = of_shard order by c.n desc limit 1;
  for turn in 0..2 loop
    continue when turn = now_turn;
    place := of_shard * 3 + turn;
    execute format('select exists (select from postrider.outbox_%s)', place) into has_rows;
    continue when not has_rows;
    begin
      execute format('lock table only postrider.outbox_%s in access exclusive mode nowait', place);
      execute format(
        'select exists (select from postrider.outbox_%1$s where xid >= pg_snapshot_xmax($1))
           or exists (select from postrider.outbox_%1$s
             where xid = any (array(select pg_snapshot_xip($1))))', place)
        into has_rows using covered;
      if not has_rows then
        execute format('truncate only postrider.outbox_%s', place);
        emptied := emptied + 1;
      end if;
    exception when lock_not_available then
      null;
    end;
  end loop;
  return emptied;
end
$_$;

CREATE FUNCTION postrider.outbox_headers(headers jsonb, OUT names text[], OUT contents bytea[]) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  header record;
  part jsonb;
begin
  if jsonb_typeof(headers) <> 'object' then
    raise exception 'headers are an object' using errcode = '22023';
  end if;
  names := '{}';
  contents := '{}';
  for header in select h.key, h.value from jsonb_each(headers) h loop
    for part in
      select p from jsonb_array_elements(
        case jsonb_typeof(header.value) when 'array' then header.value
          else jsonb_build_array(header.value) end) p
    loop
      names := names || header.key;
      if jsonb_typeof(part) = 'string' then
        contents := contents || convert_to(part #>> '{}', 'UTF8');
      elsif jsonb_typeof(part) = 'object' and jsonb_typeof(part -> 'base64') = 'string'
        and part - 'base64' = '{}'
      then
        contents := contents || decode(part ->> 'base64', 'base64');
      else
        raise exception 'the header "%" is a string, {"base64": ...} or an array of these',
          header.key using errcode = '22023';
      end if;
    end loop;
  end loop;
end
$$;

CREATE FUNCTION postrider.outbox_next(of_shard smallint, max_rows integer, max_bytes bigint) RETURNS TABLE(n bigint, last_id bigint, outbox_id bigint, topic_id bigint, kind smallint, key bytea, value bytea, header_names text[], header_values bytea[], published_ms bigint)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
#variable_conflict use_column
declare
  cursor_row postrider.outbox_cursors;
  window_end pg_snapshot;
  first bigint;
  last bigint;
begin
  select * into cursor_row from outbox_cursors c
  where c.shard = of_shard order by c.n desc limit 1;
  if cursor_row.until is null then
    window_end := pg_current_snapshot();
    -- Not by way of the numbers: everything below them is appended already.
    select min(o.id), max(o.id) into first, last from (
      select o.outbox_id as id from outbox o
      where o.place between of_shard * 3 and of_shard * 3 + 2
        and o.xid >= pg_snapshot_xmax(cursor_row.seen) and o.xid < pg_snapshot_xmax(window_end)
        and pg_visible_in_snapshot(o.xid, window_end)
      union all
      select o.outbox_id from outbox o
      where o.place between of_shard * 3 and of_shard * 3 + 2
        and o.xid = any (array(select pg_snapshot_xip(cursor_row.seen)))
        and pg_visible_in_snapshot(o.xid, window_end)
      offset 0) o;
    if first is null then
      return;
    end if;
    insert into outbox_cursors (shard, n, seen, until, after_id, last_id)
    values (of_shard, cursor_row.n + 1, cursor_row.seen, window_end, first - 1, last)
    returning * into cursor_row;
  end if;
  return query
    select cursor_row.n, cursor_row.last_id, s.outbox_id, s.topic_id, s.kind, s.key, s.value,
      s.header_names, s.header_values, (extract(epoch from s.published_at) * 1000)::bigint
    from (
      select o.*, sum(100 + coalesce(octet_length(o.key), 0) + coalesce(octet_length(o.value), 0))
        over (order by o.outbox_id rows between unbounded preceding and 1 preceding) as before
      from (
        select o.* from outbox o
        where o.place between of_shard * 3 and of_shard * 3 + 2
          and o.outbox_id > cursor_row.after_id and o.outbox_id <= cursor_row.last_id
          and pg_visible_in_snapshot(o.xid, cursor_row.until)
          and not pg_visible_in_snapshot(o.xid, cursor_row.seen)
        order by o.outbox_id limit max_rows
      ) o
    ) s
    where coalesce(s.before, 0) < max_bytes
    order by s.outbox_id;
end
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

CREATE FUNCTION postrider.publish(destination text, value bytea, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
begin
  perform outbox_add(destination, 3::smallint, value, key, headers);
end
$$;

CREATE FUNCTION postrider.publish(destination text, value json, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
begin
  perform outbox_add(destination, 1::smallint, convert_to(value::text, 'UTF8'), key, headers);
end
$$;

CREATE FUNCTION postrider.publish(destination text, value jsonb, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
begin
  perform outbox_add(destination, 1::smallint, convert_to(value::text, 'UTF8'), key, headers);
end
$$;

CREATE FUNCTION postrider.publish(destination text, value text, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
begin
  perform outbox_add(destination, 2::smallint, convert_to(value, 'UTF8'), key, headers);
end
$$;

CREATE FUNCTION postrider.purge_hidden(of_partition bigint, from_offset bigint, max_rows integer, OUT next_offset bigint, OUT removed integer) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $_$
declare
  part record;
  segment postrider.segments;
  until bigint;
  last bigint;
  count int;
begin
  removed := 0;
  select p.deleted_at is not null as is_deleted,
    (select t.retention_bytes from topics t where t.topic_id = p.owner_id) is not null as by_bytes
  into part from partitions p where p.partition_id = of_partition;
  if not found then
    return;
  end if;
  until := case when part.is_deleted then 9223372036854775807
    else partition_low(of_partition) end;
  for segment in
    select s.* from segments s
    where s.partition_id = of_partition and s.first_offset < until
      and (select b.state from buckets b where b.bucket_id = s.bucket_id) <> 'dropping'
      and coalesce(s.end_offset > from_offset, true)
      and (s.retention_class = 5 or part.by_bytes)
    order by s.first_offset
  loop
    last := least(until, segment.end_offset);
    if segment.end_offset is null and not part.is_deleted then
      execute format('select base_offset from postrider.batches_%s
        where partition_id = $1 order by base_offset desc limit 1', segment.bucket_id)
        into last using of_partition;
      last := least(until, last);
    end if;
    execute format(
      'delete from postrider.batches_%1$s where partition_id = $1 and base_offset = any (array(
         select base_offset from postrider.batches_%1$s
         where partition_id = $1 and base_offset >= $2 and base_offset < $3 and last_offset < $3
         order by base_offset limit $4))', segment.bucket_id)
      using of_partition, greatest(from_offset, segment.first_offset), last, max_rows - removed;
    get diagnostics count = row_count;
    removed := removed + count;
    if removed >= max_rows then
      next_offset := greatest(from_offset, segment.first_offset);
      return;
    end if;
    -- A segment without rows goes too, unless it is the one that tells where the partition goes on.
    delete from segments s
    where s.partition_id = of_partition and s.first_offset = segment.first_offset
      and (part.is_deleted or s.end_offset <= until and exists (
        select from segments newer
        where newer.partition_id = of_partition and newer.first_offset > s.first_offset));
  end loop;
  next_offset := until;
end
$_$;

CREATE FUNCTION postrider.retain(ids bigint[]) RETURNS TABLE(partition_id bigint, low_offset bigint, due_ms bigint, by_bytes boolean, purges boolean)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
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

CREATE FUNCTION postrider.roll_buckets(of_class smallint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  next_bucket bigint;
begin
  -- store::lock::BUCKETS; a statement of its own, so that the next ones see what others opened.
  perform pg_advisory_xact_lock(432345564227567616);
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

CREATE FUNCTION postrider.unpack_varint(data bytea, INOUT at integer, OUT number bigint) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    AS $$
declare
  raw bigint := 0;
  shift int := 0;
  byte int;
begin
  loop
    byte := get_byte(data, at);
    at := at + 1;
    raw := raw | ((byte & 127)::bigint << shift);
    exit when byte < 128;
    shift := shift + 7;
  end loop;
  number := ((raw >> 1) & 9223372036854775807) # -(raw & 1);
end
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

CREATE TABLE postrider.assignments (
    group_id bigint NOT NULL,
    partition_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    index integer NOT NULL,
    member_id text COLLATE pg_catalog."C",
    target_id text COLLATE pg_catalog."C",
    revoke_deadline timestamp with time zone,
    epoch bigint NOT NULL,
    log_incarnation text NOT NULL
);

CREATE TABLE postrider.buckets (
    bucket_id bigint NOT NULL,
    retention_class smallint NOT NULL,
    state text NOT NULL,
    opens_at timestamp with time zone NOT NULL,
    closes_at timestamp with time zone NOT NULL,
    sealed_at timestamp with time zone,
    frozen_at timestamp with time zone,
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

CREATE TABLE postrider.group_members (
    group_id bigint NOT NULL,
    member_id text NOT NULL COLLATE pg_catalog."C",
    tenant_id bigint NOT NULL,
    member_number bigint NOT NULL,
    generation bigint NOT NULL,
    patterns text[] NOT NULL,
    session_timeout_ms bigint NOT NULL,
    joined_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT group_members_session_timeout_ms_check CHECK ((session_timeout_ms > 0))
);

ALTER TABLE postrider.group_members ALTER COLUMN member_number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.group_members_member_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.group_offsets (
    partition_id bigint NOT NULL,
    group_id bigint NOT NULL,
    epoch bigint NOT NULL,
    next_offset bigint NOT NULL,
    tenant_id bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1');

CREATE TABLE postrider.groups (
    group_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    deleted_at timestamp with time zone,
    is_paused boolean DEFAULT false NOT NULL,
    start text NOT NULL,
    start_upto bigint NOT NULL,
    last_epoch bigint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    catalog_seen bigint DEFAULT 0 NOT NULL,
    CONSTRAINT groups_start_check CHECK ((start = ANY (ARRAY['earliest'::text, 'latest'::text])))
)
WITH (fillfactor='50');

ALTER TABLE postrider.groups ALTER COLUMN group_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.groups_group_id_seq
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

CREATE TABLE postrider.member_heartbeats (
    member_number bigint NOT NULL,
    tenant_id bigint NOT NULL,
    group_id bigint NOT NULL,
    session_timeout_ms bigint NOT NULL,
    seen_at timestamp with time zone NOT NULL
)
WITH (fillfactor='30', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', vacuum_truncate=off);

CREATE TABLE postrider.migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);

CREATE TABLE postrider.node_keys (
    purpose text NOT NULL,
    key bytea NOT NULL
);

CREATE TABLE postrider.nodes (
    node_id bigint NOT NULL,
    name text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    version text DEFAULT ''::text NOT NULL,
    state text DEFAULT 'serving'::text NOT NULL,
    CONSTRAINT nodes_state_check CHECK ((state = ANY (ARRAY['serving'::text, 'draining'::text, 'stopped'::text])))
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

CREATE SEQUENCE postrider.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE postrider.outbox (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
)
PARTITION BY LIST (place);

CREATE TABLE postrider.outbox_0 (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.outbox_1 (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.outbox_2 (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.outbox_3 (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.outbox_4 (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.outbox_5 (
    place smallint NOT NULL,
    outbox_id bigint DEFAULT nextval('postrider.outbox_id_seq'::regclass) NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    topic_id bigint NOT NULL,
    kind smallint NOT NULL,
    key bytea,
    value bytea,
    header_names text[],
    header_values bytea[],
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.outbox_cursors (
    shard smallint NOT NULL,
    n bigint NOT NULL,
    seen pg_snapshot NOT NULL,
    until pg_snapshot,
    after_id bigint NOT NULL,
    last_id bigint NOT NULL
);

CREATE TABLE postrider.partition_lows (
    partition_id bigint NOT NULL,
    low_offset bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_insert_threshold='-1');

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

ALTER TABLE ONLY postrider.outbox ATTACH PARTITION postrider.outbox_0 FOR VALUES IN ('0');

ALTER TABLE ONLY postrider.outbox ATTACH PARTITION postrider.outbox_1 FOR VALUES IN ('1');

ALTER TABLE ONLY postrider.outbox ATTACH PARTITION postrider.outbox_2 FOR VALUES IN ('2');

ALTER TABLE ONLY postrider.outbox ATTACH PARTITION postrider.outbox_3 FOR VALUES IN ('3');

ALTER TABLE ONLY postrider.outbox ATTACH PARTITION postrider.outbox_4 FOR VALUES IN ('4');

ALTER TABLE ONLY postrider.outbox ATTACH PARTITION postrider.outbox_5 FOR VALUES IN ('5');

ALTER TABLE ONLY postrider.assignments
    ADD CONSTRAINT assignments_pkey PRIMARY KEY (group_id, partition_id);

ALTER TABLE ONLY postrider.buckets
    ADD CONSTRAINT buckets_pkey PRIMARY KEY (bucket_id);

ALTER TABLE ONLY postrider.catalog_changes
    ADD CONSTRAINT catalog_changes_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY postrider.group_members
    ADD CONSTRAINT group_members_member_number_key UNIQUE (member_number);

ALTER TABLE ONLY postrider.group_members
    ADD CONSTRAINT group_members_pkey PRIMARY KEY (group_id, member_id);

ALTER TABLE ONLY postrider.group_offsets
    ADD CONSTRAINT group_offsets_pkey PRIMARY KEY (partition_id, group_id, epoch, next_offset);

ALTER TABLE ONLY postrider.groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (group_id);

ALTER TABLE ONLY postrider.groups
    ADD CONSTRAINT groups_tenant_id_name_key UNIQUE (tenant_id, name);

ALTER TABLE ONLY postrider.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, scope, idempotency_key);

ALTER TABLE ONLY postrider.installed_functions
    ADD CONSTRAINT installed_functions_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY postrider.member_heartbeats
    ADD CONSTRAINT member_heartbeats_pkey PRIMARY KEY (member_number);

ALTER TABLE ONLY postrider.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY postrider.node_keys
    ADD CONSTRAINT node_keys_pkey PRIMARY KEY (purpose);

ALTER TABLE ONLY postrider.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY postrider.outbox_cursors
    ADD CONSTRAINT outbox_cursors_pkey PRIMARY KEY (shard, n);

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

CREATE INDEX assignments_astray_idx ON postrider.assignments USING btree (group_id) WHERE ((member_id IS DISTINCT FROM target_id) AND (revoke_deadline IS NULL));

CREATE INDEX assignments_group_id_member_id_idx ON postrider.assignments USING btree (group_id, member_id);

CREATE INDEX assignments_partition_id_idx ON postrider.assignments USING btree (partition_id);

CREATE INDEX assignments_revoke_deadline_idx ON postrider.assignments USING btree (revoke_deadline) WHERE (revoke_deadline IS NOT NULL);

CREATE INDEX buckets_retention_class_state_idx ON postrider.buckets USING btree (retention_class, state, bucket_id);

CREATE INDEX outbox_outbox_id_idx ON ONLY postrider.outbox USING btree (outbox_id);

CREATE INDEX outbox_0_outbox_id_idx ON postrider.outbox_0 USING btree (outbox_id);

CREATE INDEX outbox_xid_idx ON ONLY postrider.outbox USING btree (xid, outbox_id);

CREATE INDEX outbox_0_xid_outbox_id_idx ON postrider.outbox_0 USING btree (xid, outbox_id);

CREATE INDEX outbox_1_outbox_id_idx ON postrider.outbox_1 USING btree (outbox_id);

CREATE INDEX outbox_1_xid_outbox_id_idx ON postrider.outbox_1 USING btree (xid, outbox_id);

CREATE INDEX outbox_2_outbox_id_idx ON postrider.outbox_2 USING btree (outbox_id);

CREATE INDEX outbox_2_xid_outbox_id_idx ON postrider.outbox_2 USING btree (xid, outbox_id);

CREATE INDEX outbox_3_outbox_id_idx ON postrider.outbox_3 USING btree (outbox_id);

CREATE INDEX outbox_3_xid_outbox_id_idx ON postrider.outbox_3 USING btree (xid, outbox_id);

CREATE INDEX outbox_4_outbox_id_idx ON postrider.outbox_4 USING btree (outbox_id);

CREATE INDEX outbox_4_xid_outbox_id_idx ON postrider.outbox_4 USING btree (xid, outbox_id);

CREATE INDEX outbox_5_outbox_id_idx ON postrider.outbox_5 USING btree (outbox_id);

CREATE INDEX outbox_5_xid_outbox_id_idx ON postrider.outbox_5 USING btree (xid, outbox_id);

CREATE INDEX partitions_deleted_idx ON postrider.partitions USING btree (partition_id) WHERE (deleted_at IS NOT NULL);

CREATE INDEX segments_bucket_id_idx ON postrider.segments USING btree (bucket_id);

ALTER INDEX postrider.outbox_outbox_id_idx ATTACH PARTITION postrider.outbox_0_outbox_id_idx;

ALTER INDEX postrider.outbox_xid_idx ATTACH PARTITION postrider.outbox_0_xid_outbox_id_idx;

ALTER INDEX postrider.outbox_outbox_id_idx ATTACH PARTITION postrider.outbox_1_outbox_id_idx;

ALTER INDEX postrider.outbox_xid_idx ATTACH PARTITION postrider.outbox_1_xid_outbox_id_idx;

ALTER INDEX postrider.outbox_outbox_id_idx ATTACH PARTITION postrider.outbox_2_outbox_id_idx;

ALTER INDEX postrider.outbox_xid_idx ATTACH PARTITION postrider.outbox_2_xid_outbox_id_idx;

ALTER INDEX postrider.outbox_outbox_id_idx ATTACH PARTITION postrider.outbox_3_outbox_id_idx;

ALTER INDEX postrider.outbox_xid_idx ATTACH PARTITION postrider.outbox_3_xid_outbox_id_idx;

ALTER INDEX postrider.outbox_outbox_id_idx ATTACH PARTITION postrider.outbox_4_outbox_id_idx;

ALTER INDEX postrider.outbox_xid_idx ATTACH PARTITION postrider.outbox_4_xid_outbox_id_idx;

ALTER INDEX postrider.outbox_outbox_id_idx ATTACH PARTITION postrider.outbox_5_outbox_id_idx;

ALTER INDEX postrider.outbox_xid_idx ATTACH PARTITION postrider.outbox_5_xid_outbox_id_idx;

ALTER TABLE ONLY postrider.groups
    ADD CONSTRAINT groups_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

